"""How much of each limit is in use now, as the gateways count in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from controlplane import redis_client
from controlplane.tenancy.types import LimitTerms

PREFIX = "limits:"
"""Of the counters' keys in Redis; ``rate:`` or ``slots:`` and the counter's name follow."""
TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class LimitUse:
    """One limit of one subject."""

    scope: str
    subject: str
    slo_class: str
    limit_name: str
    limit: float
    used: float | None
    """Of a minute's allowance, or open now; ``None``: not counted in common (queues, or Redis is away)."""


def counter_name(limit_name: str, subject: str) -> str:
    """Under which a limit is counted; empty for limits that each gateway keeps by itself."""
    noun = {
        "requests_per_minute": "requests",
        "tokens_per_minute": "tokens",
        "concurrent_requests": "open",
    }.get(limit_name)
    return f"{noun}:{subject}" if noun else ""


def limit_use(limits: Iterable[LimitTerms]) -> list[LimitUse]:
    """Every limit that is set, with its use. One round trip; without Redis all uses are ``None``."""
    wanted = [(terms, *pair) for terms in limits for pair in _set_limits(terms)]
    counters = [counter_name(name, terms.subject) for terms, name, _ in wanted]
    try:
        values = _read(counters)
    except (redis_client.RedisError, OSError):
        values = {}
    return [
        LimitUse(
            scope=terms.scope,
            subject=terms.subject,
            slo_class=terms.slo_class,
            limit_name=name,
            limit=limit,
            used=_used(name, limit, values.get(counter)),
        )
        for (terms, name, limit), counter in zip(wanted, counters, strict=True)
    ]


def _set_limits(terms: LimitTerms) -> Iterator[tuple[str, float]]:
    for name in (
        "requests_per_minute",
        "tokens_per_minute",
        "concurrent_requests",
        "queued_requests",
        "queue_seconds",
    ):
        value = getattr(terms, name)
        if value is not None:
            yield name, value


def _read(counters: list[str]) -> dict[str, dict[str, Any]]:
    """Per counter what Redis has, and Redis's own time in ms under ``now``."""
    pipeline = redis_client.shared(timeout_s=TIMEOUT_S).pipeline(transaction=False)
    pipeline.time()
    named = [name for name in counters if name]
    for name in named:
        kind = "slots:" if name.startswith("open:") else "rate:"
        pipeline.hgetall(redis_client.key(f"{PREFIX}{kind}{name}"))
    (seconds, micros), *rows = pipeline.execute()
    now_ms = seconds * 1000 + micros / 1000
    return {
        name: {field.decode(): value.decode() for field, value in row.items()} | {"now": now_ms}
        for name, row in zip(named, rows, strict=True)
    }


def _used(name: str, limit: float, row: dict[str, Any] | None) -> float | None:
    if row is None:
        return None
    now_ms = float(row.pop("now"))
    if name == "concurrent_requests":
        held = (value.split(" ") for value in row.values())
        return sum((float(count) for count, until_ms in held if float(until_ms) > now_ms), 0.0)
    if "level" not in row:
        return 0.0
    refilled = max(0.0, now_ms - float(row["at"])) * limit / 60_000
    return max(0.0, limit - min(limit, float(row["level"]) + refilled))
