"""What would a policy do now? The very same core, on the live snapshot, with the loop's own memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from controlplane.fleet.live_status import SeenStatus, read_fleet, to_cluster_snapshot
from controlplane.fleet.models import Pool
from controlplane.fleet.selectors import wanted_fleet
from controlplane.rebalancing import selectors
from controlplane.rebalancing.models import RebalanceRound
from controlplane.rebalancing.serialisation import decisions_from_data, decisions_to_data, snapshot_from_data
from controlplane.rebalancing.services.policies import diff_policies
from controlplane.rebalancing.waiting import queue_of
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Decision
from controlplane.scheduling.explain import explain
from controlplane.scheduling.load import freeness
from controlplane.scheduling.policies import POLICIES, PlanState, plan
from controlplane.scheduling.snapshot import ClusterSnapshot


@dataclass(frozen=True, slots=True)
class PolicyPreview:
    """Two configurations on the fleet of this moment: the one asked for, and the active one."""

    taken_at_s: float
    policy: str
    instances: tuple[dict[str, Any], ...]
    """``freeness_tokens`` is by the policy asked for, ``freeness_now_tokens`` by the active one;
    ``None`` for an instance that drains."""
    decisions: tuple[dict[str, Any], ...]
    """Each ``{"decision", "explanation"}``."""
    decisions_now: tuple[dict[str, Any], ...]
    diff: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RoundReplay:
    """A recorded round, decided again."""

    same: bool
    recorded: tuple[Decision, ...]
    again: tuple[Decision, ...]


def preview_policy(*, pool: Pool, config: Mapping[str, Any], now: datetime) -> PolicyPreview:
    """Nothing is sent or stored.

    Raises ``ConfigError`` for a bad configuration, ``RedisError`` without Redis.
    """
    wanted = SchedulingConfig.from_dict(config)
    active = selectors.active_scheduling_config(pool.name)
    snapshot = live_snapshot(pool, now)
    state = selectors.plan_states().get(pool.name, PlanState())
    return PolicyPreview(
        taken_at_s=snapshot.taken_at_s,
        policy=wanted.policy,
        instances=tuple(_numbers(snapshot, wanted, active)),
        decisions=_explained(snapshot, state, wanted),
        decisions_now=_explained(snapshot, state, active),
        diff=tuple(diff_policies(active, wanted)),
    )


def live_snapshot(pool: Pool, now: datetime) -> ClusterSnapshot:
    """The pool as the loop would see it now. Raises ``RedisError``."""
    seen, gateways = read_fleet(now.timestamp())
    fleet = wanted_fleet()
    mine: list[SeenStatus] = [item for item in seen if item.status.pool == pool.name]
    waiters, queue_tokens = queue_of(gateways, pool.name, taken_at_s=now.timestamp())
    return to_cluster_snapshot(
        mine,
        pool=pool.name,
        classes=selectors.scheduling_class_rules(),
        taken_at_s=now.timestamp(),
        draining=fleet.draining(),
        starting=fleet.starting.get(pool.pk, 0),
        waiters=waiters,
        queue_tokens=queue_tokens,
    )


def replay_round(row: RebalanceRound) -> RoundReplay:
    """Ask the core again what it said. Raises ``msgspec.ValidationError`` for a record it cannot read."""
    recorded = decisions_from_data(row.decisions)
    again, _ = plan(
        snapshot_from_data(row.snapshot),
        PlanState.from_dict(row.state_before),
        SchedulingConfig.from_dict(row.config),
    )
    return RoundReplay(again == recorded, recorded, again)


def _explained(
    snapshot: ClusterSnapshot, state: PlanState, config: SchedulingConfig
) -> tuple[dict[str, Any], ...]:
    decisions, after = plan(snapshot, state, config)
    return tuple(
        {"decision": data, "explanation": explain(snapshot, each, config, holes=after.holes).to_dict()}
        for each, data in zip(decisions, decisions_to_data(decisions), strict=True)
    )


def _numbers(
    snapshot: ClusterSnapshot, wanted: SchedulingConfig, active: SchedulingConfig
) -> list[dict[str, Any]]:
    def counted(config: SchedulingConfig) -> Mapping[str, Any]:
        return snapshot.classes if POLICIES[config.policy].priorities else {}

    def freeness_or_none(instance: Any, config: SchedulingConfig) -> float | None:
        return None if instance.draining else freeness(instance, counted(config))

    return [
        {
            "instance_id": each.instance_id,
            "freeness_tokens": freeness_or_none(each, wanted),
            "freeness_now_tokens": freeness_or_none(each, active),
            "used_tokens": each.used_tokens,
            "capacity_tokens": each.capacity_tokens,
            "running": each.running,
            "waiting": each.waiting,
            "draining": each.draining,
            "age_s": each.age_s,
        }
        for each in snapshot.instances
    ]
