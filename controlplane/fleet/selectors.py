"""Reading what exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from controlplane.fleet import failures
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import (
    GatewayProcess,
    Instance,
    InstanceTransition,
    Pool,
    RollingRestart,
    ScalingRecord,
)
from controlplane.fleet.reports import Limits
from controlplane.records.models import Operation


def pools() -> QuerySet[Pool]:
    return Pool.objects.all()


def instances(*, pool: str = "", state: str = "") -> QuerySet[Instance]:
    """With their pools, by id, narrowed by what is given."""
    rows = Instance.objects.select_related("pool")
    if pool:
        rows = rows.filter(pool__name=pool)
    if state:
        rows = rows.filter(state=state)
    return rows


def instance_by_id(instance_id: str) -> Instance:
    """Raises ``Instance.DoesNotExist``."""
    return Instance.objects.select_related("pool").get(instance_id=instance_id)


@dataclass(frozen=True, slots=True)
class WantedFleet:
    """What the rows want, in the little that every tick needs."""

    accepting: Mapping[str, bool] = field(default_factory=dict)
    """Instance -> whether it is to take work."""
    starting: Mapping[int, int] = field(default_factory=dict)
    """Pool -> how many of its instances are on their way up."""

    def draining(self) -> frozenset[str]:
        return frozenset(name for name, accepting in self.accepting.items() if not accepting)


def wanted_fleet() -> WantedFleet:
    """One cheap query."""
    rows = list(Instance.objects.order_by().values_list("instance_id", "accepting", "state", "pool_id"))
    return WantedFleet(
        accepting={name: accepting for name, accepting, _, _ in rows},
        starting=Counter(pool for _, _, state, pool in rows if state in Instance.RISING_STATES),
    )


def unsettled_instance_ids(reports: Mapping[str, SeenStatus], limits: Limits) -> list[str]:
    """All but those that are ready, wanted and freshly reported so: a thousand rows in one look."""
    rows = Instance.objects.order_by().values_list("instance_id", "state", "accepting", "incarnation")
    return [
        name
        for name, state, accepting, incarnation in rows
        if state != Instance.State.READY
        or not accepting
        or (seen := reports.get(name)) is None
        or seen.age_s > limits.stale_s
        or seen.status.state != "ready"
        or seen.status.leaving
        or seen.status.incarnation != incarnation
    ]


def gateway_processes() -> QuerySet[GatewayProcess]:
    return GatewayProcess.objects.all()


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How large a pool is, in three numbers that may differ, and who may change it."""

    pool: str
    target: int
    """What a person or the policy asked for last."""
    actual: int
    """All that are there: on their way up or out, failed and quarantined ones included."""
    ready: int
    """That take work now."""
    by_state: Mapping[str, int]
    min_instances: int
    max_instances: int
    held_until: datetime | None
    held_by: str
    hold_reason: str
    rolling_restart: str
    """Its operation; empty when none is under way."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def pool_by_name(name: str) -> Pool:
    """Raises ``Pool.DoesNotExist``."""
    return Pool.objects.get(name=name)


def pool_size(pool: Pool, *, now: datetime) -> PoolSize:
    """Two queries."""
    states = list(pool.instances.order_by().values_list("state", "accepting"))
    rollout = RollingRestart.objects.filter(pool=pool, open=True).first()
    held = pool.scaling_is_held(now)
    return PoolSize(
        pool=pool.name,
        target=pool.target_instances,
        actual=sum(state != Instance.State.STOPPED for state, _ in states),
        ready=sum(state == Instance.State.READY and accepting for state, accepting in states),
        by_state=dict(Counter(state for state, _ in states)),
        min_instances=pool.min_instances,
        max_instances=pool.max_instances,
        held_until=pool.scaling_held_until if held else None,
        held_by=pool.scaling_held_by if held else "",
        hold_reason=pool.scaling_hold_reason if held else "",
        rolling_restart=rollout.operation_id if rollout else "",
    )


def scaling_records(*, pool: str = "") -> QuerySet[ScalingRecord]:
    """Newest first."""
    rows = ScalingRecord.objects.select_related("pool")
    return rows.filter(pool__name=pool) if pool else rows


def transitions(*, instance_id: str) -> QuerySet[InstanceTransition]:
    """What an instance went through, newest first."""
    return InstanceTransition.objects.filter(instance__instance_id=instance_id)


def open_operations(*, object_type: str, object_id: str) -> QuerySet[Operation]:
    return Operation.objects.filter(
        object_type=object_type, object_id=object_id, state=Operation.State.RUNNING
    )


def agent_log(instance_id: str, *, lines: int = 200) -> str:
    """The end of an agent's log; empty where it writes on another machine, or never did."""
    return failures.log_tail(instance_id, lines)
