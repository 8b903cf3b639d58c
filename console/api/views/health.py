"""How the parts are, in one answer; for people who are signed in."""

from __future__ import annotations

import time
from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from console import health
from console.api.outputs import moment
from console.api.outputs.fleet import HealthOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView
from controlplane import redis_client
from controlplane.fleet.live_status import read_gateways, read_statuses
from controlplane.rebalancing.selectors import loop_status
from controlplane.rebalancing.situation import degradations

FRESH_S = 10.0


class Health(ConsoleView):
    """Database, Redis, loop, gateways and instances; ``null`` for what cannot be known now."""

    @contract(answer=HealthOutput)
    def get(self, request: Request) -> Response:
        redis_problem = redis_client.problem()
        return Response(
            {
                "database": health.database_problem() or "ok",
                "redis": redis_problem or "ok",
                "degraded": [each.to_dict() for each in degradations(timezone.now())],
                **({"loop": None, "gateways": None, "instances": None} if redis_problem else _live()),
            }
        )


def _live() -> dict[str, Any]:
    now = time.time()
    loop = loop_status()
    seen = read_statuses(now)
    gateways = [item for item in read_gateways() if now - item.reported_at_s < FRESH_S]
    return {
        "loop": None
        if loop is None
        else {"leader": loop.leader, "epoch": loop.epoch, "last_tick_at": moment(loop.last_tick_at_s)},
        "gateways": [{"gateway_id": item.gateway_id, "url": item.url} for item in gateways],
        "instances": {
            "reported": len(seen),
            "fresh": sum(item.age_s < FRESH_S for item in seen),
            "ready": sum(item.age_s < FRESH_S and item.status.state == "ready" for item in seen),
        },
    }
