"""How the parts are, in one answer; for people who are signed in."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from django.db import DatabaseError
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from console import health
from console.api.outputs import moment
from console.api.outputs.fleet import ClassLatencyOutput, HealthOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView
from controlplane import redis_client
from controlplane.fleet.asking import ask_gateways
from controlplane.fleet.live_status import read_gateways, read_statuses
from controlplane.rebalancing.selectors import loop_status
from controlplane.rebalancing.situation import degradations
from engine_agents.messages import GatewayStatus

FRESH_S = 10.0
_LATENCY = tuple(str(name) for name in ClassLatencyOutput().fields)


class Health(ConsoleView):
    """Database, Redis, loop, gateways and instances; ``null`` for what cannot be known now."""

    @contract(answer=HealthOutput)
    def get(self, request: Request) -> Response:
        redis_problem = redis_client.problem()
        live = {"loop": None, "instances": None, "gateways": _asked()} if redis_problem else _live()
        return Response(
            {
                "database": health.database_problem() or "ok",
                "redis": redis_problem or "ok",
                "degraded": [each.to_dict() for each in degradations(timezone.now())],
                "asked_directly": bool(redis_problem),
                **live,
            }
        )


def _asked() -> list[dict[str, Any]] | None:
    """With Redis away, what the gateways say themselves; ``None`` where even their addresses are unknown."""
    try:
        asked = ask_gateways()
    except DatabaseError:
        return None
    return [
        _gateway(each.answer.report, engines=msgspec.to_builtins(each.answer.engines))
        if each.answer
        else {**_NOTHING, "gateway_id": each.gateway_id, "url": each.url, "problem": each.problem}
        for each in asked
    ]


_NOTHING: dict[str, Any] = {"open_streams": None, "queued": None, "per_class": None, "engines": None}


def _gateway(report: GatewayStatus, engines: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {
        "gateway_id": report.gateway_id,
        "url": report.url,
        "problem": "",
        "open_streams": report.open_streams,
        "queued": report.queued,
        "per_class": [{name: getattr(each, name) for name in _LATENCY} for each in report.per_class],
        "engines": engines,
    }


def _live() -> dict[str, Any]:
    now = time.time()
    loop = loop_status()
    seen = read_statuses(now)
    gateways = [item for item in read_gateways() if now - item.reported_at_s < FRESH_S]
    return {
        "loop": None
        if loop is None
        else {"leader": loop.leader, "epoch": loop.epoch, "last_tick_at": moment(loop.last_tick_at_s)},
        "gateways": [_gateway(item) for item in gateways],
        "instances": {
            "reported": len(seen),
            "fresh": sum(item.age_s < FRESH_S for item in seen),
            "ready": sum(item.age_s < FRESH_S and item.status.state == "ready" for item in seen),
        },
    }
