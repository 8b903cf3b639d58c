"""What a gateway tells the console directly when Redis cannot: its streams, latencies and engines.

Only for the console: the answer is given to whoever shows the token that both derive
from the project's secret. It holds no request's text and no tenant's name.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import msgspec

from controlplane.fleet.live_status import SeenStatus
from controlplane.gateway.fleet_view import FleetView
from engine_agents.messages import GatewayStatus

PATH = "/internal/status"


class EngineSeen(msgspec.Struct, kw_only=True):
    """One engine as this gateway sees it; ``None`` is unknown, not zero."""

    instance_id: str
    usable: bool
    """Its link is alive: requests can be sent there."""
    age_s: float | None = None
    """Of its last report."""
    running: int | None = None
    waiting: int | None = None
    used_blocks: int | None = None
    total_blocks: int | None = None


class OperatorAnswer(msgspec.Struct, kw_only=True):
    report: GatewayStatus
    redis_alive: bool
    engines: list[EngineSeen]


def allowed(headers: Iterable[tuple[bytes, bytes]], token: str) -> bool:
    """Whether the caller shows the console's token."""
    wanted = b"Bearer " + token.encode()
    shown = [value for name, value in headers if name == b"authorization"]
    return bool(token) and len(shown) == 1 and hmac.compare_digest(shown[0], wanted)


def operator_answer(report: GatewayStatus, view: FleetView, usable: frozenset[str], now_s: float) -> bytes:
    """JSON of an :class:`OperatorAnswer`."""
    seen = view.seen(now_s)
    reported = {item.status.instance_id for item in seen}
    engines = [
        *(_engine(item, usable) for item in seen),
        *(EngineSeen(instance_id=name, usable=True) for name in sorted(usable - reported)),
    ]
    return msgspec.json.encode(
        OperatorAnswer(report=_without_waiters(report), redis_alive=view.redis_alive, engines=engines)
    )


def _engine(item: SeenStatus, usable: frozenset[str]) -> EngineSeen:
    status = item.status
    return EngineSeen(
        instance_id=status.instance_id,
        usable=status.instance_id in usable,
        age_s=round(item.age_s, 3),
        running=status.running,
        waiting=status.waiting,
        used_blocks=status.used_blocks,
        total_blocks=status.total_blocks,
    )


def _without_waiters(report: GatewayStatus) -> GatewayStatus:
    return msgspec.structs.replace(report, waiters=[])
