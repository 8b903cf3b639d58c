"""All live requests of the fleet at one moment: on instances, and in the gateways' queues."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.fleet.live_status import read_gateways, read_statuses
from controlplane.fleet.watching import look_at
from engine_agents.messages import GatewayStatus, RequestInfo

Json = dict[str, Any]
FRESH_S = 10.0
PATIENCE_S = 2.0
"""The loop fetches detail about once a second while somebody looks; so long is waited for the first."""
LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class LiveRequests:
    rows: list[Json]
    not_heard: list[str]
    """Instances that did not say in time what runs there."""


def live_requests() -> LiveRequests:
    """Never their text. Raises ``RedisError``."""
    now = time.time()
    names = [item.status.instance_id for item in read_statuses(now) if item.age_s < FRESH_S]
    found = _fetched(names)
    rows = [_resident(name, info) for name, infos in found.items() for info in infos or ()]
    held = {row["request_id"] for row in rows}
    for gateway in read_gateways():
        if now - gateway.reported_at_s < FRESH_S:
            rows += [row for row in _waiting(gateway) if row["request_id"] not in held]
    return LiveRequests(rows, sorted(name for name, infos in found.items() if infos is None))


def _fetched(names: list[str]) -> dict[str, list[RequestInfo] | None]:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        found = look_at(names, wall_s=time.time())
        if None not in found.values() or time.monotonic() > deadline_s:
            return found
        time.sleep(LOOK_EVERY_S)


def _resident(instance_id: str, info: RequestInfo) -> Json:
    return {
        "request_id": info.request_id,
        "tenant": info.tenant,
        "slo_class_asked": None,
        "slo_class_served": info.slo_class,
        "state": info.state,
        "instance": instance_id,
        "prompt_tokens": info.prompt_tokens,
        "output_tokens": info.output_tokens,
        "blocks": info.blocks,
        "arrived_at": datetime.fromtimestamp(info.arrived_at_s, tz=UTC),
        "why": None,
    }


def _waiting(gateway: GatewayStatus) -> list[Json]:
    return [
        {
            "request_id": waiter.request_id,
            "tenant": waiter.tenant,
            "slo_class_asked": None,
            "slo_class_served": waiter.slo_class,
            "state": "queued",
            "instance": None,
            "prompt_tokens": waiter.prompt_tokens,
            "output_tokens": waiter.generated_tokens,
            "blocks": None,
            "queued_ms": round(waiter.waiting_s * 1000, 1),
            "arrived_at": datetime.fromtimestamp(gateway.reported_at_s - waiter.waiting_s, tz=UTC),
            "why": waiter.why or None,
        }
        for waiter in gateway.waiters
    ]
