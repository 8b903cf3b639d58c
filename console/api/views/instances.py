"""Instances: rows with their last reports, their live requests, drain and undrain."""

from __future__ import annotations

import time
from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.inputs import Reason
from console.api.outputs import InstanceOutput, RequestOutput, moment
from console.api.pagination import page
from console.api.problems import Conflict
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.dashboard import shapes
from controlplane import redis_client
from controlplane.fleet import selectors, services
from controlplane.fleet.live_status import read_statuses
from controlplane.fleet.models import Instance, TransitionError
from controlplane.fleet.watching import look_at
from controlplane.rebalancing.selectors import scheduling_class_rules


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
    """``GET ?pool=&state=``: all instances by id."""

    def get(self, request: Request) -> Response:
        rows = selectors.instances(
            pool=request.query_params.get("pool", ""), state=request.query_params.get("state", "")
        )
        return page(rows, InstanceOutput, view=self, ordering="instance_id", context={"live": live_reports()})


class InstanceDetail(ConsoleView):
    def get(self, request: Request, instance_id: str) -> Response:
        row = find_instance(instance_id)
        return Response(InstanceOutput(row, context={"live": live_reports()}).data)


class InstanceRequests(ConsoleView):
    """``GET``: the requests on an instance now; ``requests`` is null until they have been fetched.

    Looking keeps the detail coming for a few seconds; ask again each second while somebody looks.
    """

    def get(self, request: Request, instance_id: str) -> Response:
        find_instance(instance_id)
        now = time.time()
        found = look_at([instance_id], wall_s=now)[instance_id]
        return Response(
            {
                "instance_id": instance_id,
                "asked_at": moment(now),
                "requests": None
                if found is None
                else [RequestOutput().to_representation(item) for item in found],
            }
        )


class InstanceDrain(ConsoleView):
    """``POST {"reason"}``: no new work, everything running moves away."""

    def post(self, request: Request, instance_id: str) -> Response:
        given = checked(Reason, request)
        row = find_instance(instance_id)
        try:
            services.drain_instance(instance=row, actor=actor_of(request), reason=given["reason"])
        except TransitionError as error:
            raise Conflict(str(error)) from error
        return Response(InstanceOutput(row).data, status=202)


class InstanceUndrain(ConsoleView):
    """``POST {"reason"}``: take new work again."""

    def post(self, request: Request, instance_id: str) -> Response:
        given = checked(Reason, request)
        row = find_instance(instance_id)
        try:
            services.undrain_instance(instance=row, actor=actor_of(request), reason=given["reason"])
        except TransitionError as error:
            raise Conflict(str(error)) from error
        return Response(InstanceOutput(row).data, status=202)


def find_instance(instance_id: str) -> Instance:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.instances(), instance_id=instance_id)
