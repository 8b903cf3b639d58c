"""Instances: rows with their last reports, their live requests, drain and undrain."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.filters import Choice, Flag, Word
from console.api.inputs import Reason
from console.api.inputs.fleet import Draining
from console.api.listing import Listing
from console.api.outputs import moment
from console.api.outputs.fleet import InstanceActionOutput, InstanceOutput, ResidentOutput, ResidentsOutput
from console.api.outputs.pools import LogOutput, TransitionOutput
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

MAX_LINES = 2_000


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

    @contract(body=Draining, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        given = checked(Draining, request)
        return act(services.drain_instance, instance_id, request, given)


class InstanceUndrain(ConsoleView):
    """Take new work again."""

    @contract(body=Reason, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        return act(services.undrain_instance, instance_id, request, checked(Reason, request))


class InstanceRestart(ConsoleView):
    """Drain it, then start its engine again."""

    @contract(body=Draining, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        return act(services.restart_instance, instance_id, request, checked(Draining, request))


class InstanceMigrateAll(ConsoleView):
    """Move everything away once; it takes new work again afterwards."""

    @contract(body=Reason, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        return act(services.migrate_all, instance_id, request, checked(Reason, request))


class InstanceStop(ConsoleView):
    """End its engine now; what runs there is recomputed elsewhere from its tokens."""

    @contract(body=Reason, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        return act(services.stop_instance, instance_id, request, checked(Reason, request))


class InstanceRemove(ConsoleView):
    """Drain it, stop it, and make the pool smaller by one."""

    @contract(body=Draining, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        return act(services.remove_instance, instance_id, request, checked(Draining, request))


class InstanceRelease(ConsoleView):
    """Try a quarantined, unhealthy or stopped instance again."""

    @contract(body=Reason, answer=InstanceActionOutput, status=202)
    def post(self, request: Request, instance_id: str) -> Response:
        return act(services.release_instance, instance_id, request, checked(Reason, request))


class InstanceTransitions(ConsoleView):
    """What became of it, newest first."""

    listing = Listing(
        output=TransitionOutput,
        ordering={"id": "id", "at": "at"},
        default="-id",
        search=("state", "cause", "actor"),
    )

    @contract(lists=True)
    def get(self, request: Request, instance_id: str) -> Any:
        find_instance(instance_id)
        return self.list(selectors.transitions(instance_id=instance_id))


class InstanceLog(ConsoleView):
    """The end of its agent's log."""

    @contract(answer=LogOutput, query={"tail": "Lines, 200 by default, 2,000 at most."})
    def get(self, request: Request, instance_id: str) -> Response:
        find_instance(instance_id)
        raw = request.query_params.get("tail", "200")
        if not raw.isascii() or not raw.isdigit() or len(raw) > 4 or not 1 <= int(raw) <= MAX_LINES:
            raise exceptions.ValidationError({"tail": f"must be a whole number from 1 to {MAX_LINES}"})
        log = selectors.agent_log(instance_id, lines=int(raw))
        return Response({"instance_id": instance_id, "lines": len(log.splitlines()), "log": log})


def act(
    service: Callable[..., Instance], instance_id: str, request: Request, given: dict[str, Any]
) -> Response:
    """Ask the service for it; 202 with the operation to watch."""
    row = find_instance(instance_id)
    service(instance=row, actor=actor_of(request), **given)
    return answered(row)


def answered(row: Instance) -> Response:
    """202: the instance as it is wished now, and the operation under way on it."""
    operation = operations(object_type="instance", object_id=row.instance_id).first()
    return Response(InstanceActionOutput(row, context={"operation": operation}).data, status=202)


def find_instance(instance_id: str) -> Instance:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.instances(), instance_id=instance_id)
