"""What waits in front of a pool, as its gateways report it; and the holes that are kept for it.

A gateway reports for how long a request has waited, not since when: its clock is its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from controlplane import redis_client
from controlplane.fleet.live_status import HOLES_KEY
from controlplane.scheduling.snapshot import RequestProfile
from engine_agents.messages import GatewayStatus

HOLES_TTL_MS = 3_000
"""A hole that nobody renews is none: without the loop, gateways use the instance again."""


def queue_of(
    gateways: Iterable[GatewayStatus], pool: str, *, taken_at_s: float
) -> tuple[tuple[RequestProfile, ...], int]:
    """The longest waiting request of each of a pool's gateways, and the tokens of all that waits there."""
    mine = [status for status in gateways if status.pool == pool]
    waiters = tuple(
        RequestProfile(
            request_id=waiter.request_id,
            slo_class=waiter.slo_class,
            prompt_tokens=waiter.prompt_tokens,
            arrived_at_s=taken_at_s - waiter.waiting_s,
            generated_tokens=waiter.generated_tokens,
        )
        for status in mine
        if status.waiters
        for waiter in [max(status.waiters, key=lambda each: each.waiting_s)]
    )
    return waiters, sum(status.queue_tokens for status in mine)


def declare_in(pipeline: Any, holes: Mapping[str, Mapping[str, str]], *, changed: bool) -> None:
    """Queue the holes of all pools (pool -> instance -> request); told at once when they changed."""
    key = redis_client.key(HOLES_KEY)
    payload = msgspec.msgpack.encode(holes)
    if any(holes.values()):
        pipeline.set(key, payload, px=HOLES_TTL_MS)
    elif changed:
        pipeline.delete(key)
    if changed:
        pipeline.publish(key, payload)
