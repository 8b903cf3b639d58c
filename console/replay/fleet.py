"""What the fleet did meanwhile, read from its own database and Redis; and a start out of balance.

Only for a replay beside the fleet's control plane. Called in a thread: uses the ORM.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import DatabaseError, close_old_connections
from django.db.models import Q

from console.replay.report import Spread
from console.replay.shots import ReplayError
from controlplane.fleet import live_status, selectors, services
from controlplane.fleet.models import Instance, TransitionError
from controlplane.rebalancing.models import RequestMigration
from controlplane.redis_client import RedisError

ACTOR = "system:replay"


@dataclass(frozen=True, slots=True)
class Deeds:
    """Migrations that began during the replay, and preemptions on the engines."""

    migrations_done: int
    migrations_not_done: dict[str, int]
    """Reason -> how often."""
    stages: Spread
    downtime_ms: Spread
    rules: dict[str, int]
    preemptions: int | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "migrations": self.migrations_done,
            "migrations_not_done": self.migrations_not_done,
            "migrations_by_rule": self.rules,
            "stages": self.stages.as_dict(),
            "downtime_ms": self.downtime_ms.as_dict(),
            "preemptions": self.preemptions,
        }

    def sentence(self) -> str:
        preempted = "unknown" if self.preemptions is None else str(self.preemptions)
        text = f"migrations {self.migrations_done}, preemptions {preempted}"
        if self.migrations_done:
            text += (
                f"; stages {self.stages.mean:.1f} on average, downtime {self.downtime_ms.p50:.1f} ms median, "
                f"{self.downtime_ms.p99:.1f} ms P99"
            )
        if self.migrations_not_done:
            each = ", ".join(f"{count} × {reason}" for reason, count in self.migrations_not_done.items())
            text += f"; not done: {each}"
        return text


def preemptions_so_far() -> dict[str, int] | None:
    """Per incarnation of an engine; ``None`` when Redis cannot be asked."""
    try:
        seen = live_status.read_statuses(wall_s=time.time())
    except (RedisError, OSError):
        return None
    return {each.status.incarnation: each.status.preemptions_total for each in seen}


def deeds_since(start: datetime, preempted_before: dict[str, int] | None) -> Deeds | None:
    """``None`` when the database is not that of a fleet (a replay against a far gateway)."""
    try:
        rows = list(RequestMigration.objects.filter(started_at__gte=start))
    except DatabaseError:
        return None
    finally:
        close_old_connections()
    done = [row for row in rows if row.state == RequestMigration.State.DONE]
    others = [row.reason or row.state for row in rows if row.state != RequestMigration.State.DONE]
    return Deeds(
        migrations_done=len(done),
        migrations_not_done={reason: others.count(reason) for reason in sorted(set(others))},
        stages=Spread.of(len(row.stages) for row in done),
        downtime_ms=Spread.of(row.downtime_ms for row in done),
        rules={rule: sum(row.rule == rule for row in done) for rule in sorted({row.rule for row in done})},
        preemptions=_preempted_since(preempted_before),
    )


def _preempted_since(before: dict[str, int] | None) -> int | None:
    now = preemptions_so_far()
    if before is None or now is None:
        return None
    return sum(total - before.get(incarnation, 0) for incarnation, total in now.items())


def drain_all_but_one() -> list[str]:
    """Start out of balance: every ready instance but the first takes no work; returns their ids."""
    ready = list(selectors.instances(state=Instance.State.READY))
    if len(ready) < 2:
        raise ReplayError(
            "--skew needs at least two ready instances, and this fleet's control plane beside it"
        )
    for instance in ready[1:]:
        services.drain_instance(instance=instance, actor=ACTOR, reason="replay --skew")
    return [instance.instance_id for instance in ready[1:]]


def undrain(instance_ids: list[str]) -> None:
    """Give them back; from now on the rebalancing loop has something to level out."""
    for instance in Instance.objects.filter(Q(instance_id__in=instance_ids)):
        try:
            services.undrain_instance(instance=instance, actor=ACTOR, reason="replay --skew is over")
        except TransitionError:
            continue
    close_old_connections()
