"""What is degraded, since when, what still works, what is on hold, and what to do: for people and probes.

The loop says what it has to do without; what the loop cannot say (that it is away itself, or
Redis, or the database) is seen from here. Everything heals by itself: this only tells.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings
from django.db import DatabaseError, connection

from controlplane import redis_client
from controlplane.fleet import jobs_status
from controlplane.rebalancing.selectors import loop_status
from controlplane.rebalancing.types import LoopStatus

LOOP_SILENT_S = 10.0
"""Lease, stand-by and a few ticks: a loop that says nothing for longer is away."""


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a part's absence means."""

    works: str
    on_hold: str
    do: str


CONSEQUENCES: dict[str, Consequence] = {
    "redis": Consequence(
        works="open streams; new requests, placed by what engines tell each gateway on its links",
        on_hold="live figures, migrations, drains, starting and stopping of instances, what-if jobs",
        do="bring Redis back; everything reconnects by itself (embedded: it is restarted at once)",
    ),
    "database": Consequence(
        works="open streams; keys seen in the last seconds; migrations by the last policy read",
        on_hold="new keys, sign-in, changes of configuration, history (kept in memory, stored later)",
        do="bring the database back, or end what locks it; a full disk: make room",
    ),
    "loop": Consequence(
        works="open streams, new requests, manual reading of everything",
        on_hold="migrations, drains, changes of an instance's state",
        do="look at the worker of the queue 'loop'; another one leads within seconds when there is one",
    ),
    "ray": Consequence(
        works="all engines and streams, migrations, drains",
        on_hold="starting and ending of engines; rows wait in pending or stopping",
        do="the embedded one is restarted; of a cluster of yours, bring the head back",
    ),
    "agents": Consequence(
        works="everything on the other instances; streams of these go on or are recovered",
        on_hold="moves away from and to the instances named",
        do="look at their logs and nodes; they are asked again by themselves",
    ),
    "reports": Consequence(
        works="everything elsewhere; these instances by their last good report until it is stale",
        on_hold="new work for the instances named, then moves to and from them",
        do="is an agent of another version there? If not, somebody writes to Redis who should not: "
        "change its password",
    ),
    "strangers": Consequence(
        works="everything; nothing is sent to agents that are not registered, and nothing they report counts",
        on_hold="whatever they were started for",
        do="end them, or add them as instances; if nobody started them, change the password of Redis and "
        "LLUMDECK_LINK_SECRET",
    ),
    "policy": Consequence(
        works="everything, by the configuration that was read last",
        on_hold="the change of policy",
        do="correct or roll back the active version of the pool named",
    ),
}
OTHERWISE = Consequence("everything else", "what is named", "read the reason")


@dataclass(frozen=True, slots=True)
class Degraded:
    part: str
    reason: str
    since: datetime | None
    """``None`` when it was so before this process looked."""
    works: str
    on_hold: str
    do: str

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "since": self.since.isoformat() if self.since else None}


class Onsets:
    """Since when this process has seen a part failing; of what others report they say it themselves."""

    def __init__(self) -> None:
        self._since: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def note(self, failing: Iterable[str], now: datetime) -> dict[str, datetime]:
        with self._lock:
            self._since = {part: self._since.get(part, now) for part in failing}
            return dict(self._since)


_onsets = Onsets()


def degradations(now: datetime, onsets: Onsets = _onsets) -> list[Degraded]:
    """Everything that is degraded now; empty when all is well. Never raises, takes a second at most."""
    seen: dict[str, str] = {}
    found: list[Degraded] = []
    status: LoopStatus | None = None
    if problem := redis_client.problem():
        seen["redis"] = problem
    else:
        status, seen["loop"] = _loop(now)
        found = _ray()
    seen["database"] = _database_problem()
    failing = {part: reason for part, reason in seen.items() if reason}
    since = onsets.note(failing, now)
    if status is not None and "loop" in failing:
        since["loop"] = datetime.fromtimestamp(status.last_tick_at_s, tz=UTC)
    found += [_degraded(part, reason, since[part]) for part, reason in failing.items()]
    if status is not None and "loop" not in failing:
        found += [
            _degraded(each.part, each.reason, datetime.fromtimestamp(each.since_s, tz=UTC))
            for each in status.degraded
            if each.part not in failing
        ]
    return sorted(found, key=lambda each: each.part)


def _loop(now: datetime) -> tuple[LoopStatus | None, str]:
    try:
        status = loop_status()
    except (redis_client.RedisError, OSError, msgspec.DecodeError) as error:
        return None, f"its report cannot be read: {type(error).__name__}"
    if status is None:
        return None, "nobody leads"
    age_s = now.timestamp() - status.last_tick_at_s
    limit_s = max(LOOP_SILENT_S, settings.LEASE_TTL_MS / 1000 + 3 * status.interval_ms / 1000)
    return status, f"no tick for {age_s:.0f} s" if age_s > limit_s else ""


def _ray() -> list[Degraded]:
    """What the worker ``jobs`` says of Ray; nothing where it never said anything."""
    try:
        status = jobs_status.read()
    except (redis_client.RedisError, OSError, msgspec.DecodeError):
        return []
    if status is None or not status.problem:
        return []
    since = datetime.fromtimestamp(status.since_s, tz=UTC) if status.since_s else None
    return [_degraded("ray", status.problem, since)]


def _database_problem() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        connection.close()
        words = str(error).strip().splitlines()
        return words[0][:200] if words else type(error).__name__
    return ""


def _degraded(part: str, reason: str, since: datetime | None) -> Degraded:
    known = CONSEQUENCES.get(part) or CONSEQUENCES.get(part.split(" ")[0]) or OTHERWISE
    return Degraded(part, reason, since, known.works, known.on_hold, known.do)
