"""Instances: rows with their last reports, their live requests, drain and undrain."""

from __future__ import annotations

import time
from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Choice, Flag, Word
from console.api.inputs import Reason
from console.api.listing import Listing
from console.api.outputs import moment
from console.api.outputs.fleet import InstanceActionOutput, InstanceOutput, ResidentOutput, ResidentsOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.dashboard import shapes
from controlplane import redis_client
from controlplane.fleet import selectors, services
from controlplane.fleet.live_status import read_statuses
from controlplane.fleet.models import Instance
from controlplane.fleet.watching import look_at
from controlplane.rebalancing.selectors import scheduling_class_rules
from controlplane.records.operations import operations


class InstanceFilters(django_filters.FilterSet):
    pool = Word(field_name="pool__name")
    state = Choice(choices=Instance.State.choices)
    accepting = Flag()


def live_reports() -> dict[str, dict[str, Any]]:
    """Last reports by instance id; empty while Redis is away (the rows are still answered)."""
    now = time.time()
    try:
        seen = read_statuses(now)
    except (redis_client.RedisError, OSError):
        return {}
    rules = scheduling_class_rules()
    return {
        item.status.instance_id: _report(
            item.status, age_s=item.age_s, heard_at=now - item.age_s, rules=rules
        )
        for item in seen
    }


def _report(status: Any, *, age_s: float, heard_at: float, rules: shapes.Rules) -> dict[str, Any]:
    shape = shapes.instance_shape(status.instance_id, row=None, status=status, rules=rules, heard_at=heard_at)
    row_fields = ("id", "row_state", "wanted_accepting", "cause", "changed_at", "pool")
    numbers = {name: value for name, value in shape.items() if name not in row_fields}
    return {**numbers, "heard_at": moment(heard_at), "age_s": round(age_s, 2)}


class Instances(ConsoleView):
    """All instances by id, each with its last report."""

    listing = Listing(
        output=InstanceOutput,
        ordering={"instance_id": "instance_id", "changed_at": "changed_at", "created_at": "created_at"},
        default="instance_id",
        filters=InstanceFilters,
        search=("instance_id", "pool__name", "cause", "host"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.instances(), live=live_reports())


class InstanceDetail(ConsoleView):
    """One instance with its last report."""

    @contract(answer=InstanceOutput)
    def get(self, request: Request, instance_id: str) -> Response:
        row = find_instance(instance_id)
        return Response(InstanceOutput(row, context={"live": live_reports()}).data)


class InstanceRequests(ConsoleView):
    """The requests on an instance now; ``requests`` is null until they have been fetched.

    Looking keeps the detail coming for a few seconds; ask again each second while somebody looks.
    """

    @contract(answer=ResidentsOutput)
    def get(self, request: Request, instance_id: str) -> Response:
        find_instance(instance_id)
        now = time.time()
        found = look_at([instance_id], wall_s=now)[instance_id]
        return Response(
            {
                "instance_id": instance_id,
                "asked_at": moment(now),
                "requests": None if found is None else ResidentOutput(found, many=True).data,
            }
        )


class InstanceDrain(ConsoleView):
    """No new work, everything running moves away."""

    @contract(body=Reason, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        given = checked(Reason, request)
        row = find_instance(instance_id)
        services.drain_instance(instance=row, actor=actor_of(request), reason=given["reason"])
        return answered(row)


class InstanceUndrain(ConsoleView):
    """Take new work again."""

    @contract(body=Reason, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        given = checked(Reason, request)
        row = find_instance(instance_id)
        services.undrain_instance(instance=row, actor=actor_of(request), reason=given["reason"])
        return answered(row)


def answered(row: Instance) -> Response:
    """202: the instance as it is wished now, and the operation under way on it."""
    operation = operations(object_type="instance", object_id=row.instance_id).first()
    return Response(InstanceActionOutput(row, context={"operation": operation}).data, status=202)


def find_instance(instance_id: str) -> Instance:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.instances(), instance_id=instance_id)
