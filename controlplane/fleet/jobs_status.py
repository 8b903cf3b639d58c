"""How the fleet's jobs do: written by them to Redis each time they ran, read by whoever shows it."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from controlplane import redis_client

KEY = "fleet:status"
TTL_S = 86_400


class RayNode(msgspec.Struct, kw_only=True, frozen=True):
    """One node of the Ray cluster."""

    node_id: str
    address: str
    alive: bool
    resources: dict[str, float] = {}
    labels: dict[str, str] = {}


class FleetStatus(msgspec.Struct, kw_only=True, frozen=True):
    """JSON in the Redis key ``fleet:status``."""

    at_s: float
    """Wall clock of the jobs' worker."""
    problem: str = ""
    """Why agents cannot be placed, ended or judged now; empty: they can. Agents that run go on."""
    since_s: float | None = None
    """Since when there is this problem."""
    operations: int = 0
    """Long actions under way."""
    ray_version: str = ""
    nodes: list[RayNode] = []

    def to_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]


def write(status: FleetStatus) -> None:
    """Raises ``RedisError``."""
    redis_client.shared(timeout_s=1.0).set(redis_client.key(KEY), msgspec.json.encode(status), ex=TTL_S)


def read() -> FleetStatus | None:
    """``None`` when the jobs never ran. Raises ``RedisError``."""
    raw = cast(bytes | None, redis_client.shared(timeout_s=1.0).get(redis_client.key(KEY)))
    return msgspec.json.decode(raw, type=FleetStatus) if raw else None


def since(problem: str, before: FleetStatus | None, now_s: float) -> float | None:
    """When the present problem began."""
    if not problem:
        return None
    if before is not None and before.problem and before.since_s is not None:
        return before.since_s
    return now_s
