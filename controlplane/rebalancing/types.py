"""Plain data of the loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from controlplane.fleet.agents import MoveCommand
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Decision
from controlplane.scheduling.policies import PlanState
from controlplane.scheduling.snapshot import ClusterSnapshot
from engine_agents.messages import MigrateOutAnswer


@dataclass(frozen=True, slots=True)
class PoolPolicy:
    """The active policy of a pool, as read from the database."""

    pool_id: int
    pool: str
    policy_id: int | None
    version: int
    config: SchedulingConfig


@dataclass(slots=True)
class Round:
    """One pool in one tick: what was seen, said, and answered."""

    policy: PoolPolicy
    epoch: int
    tick: int
    taken_at: datetime
    snapshot: ClusterSnapshot
    state_before: PlanState
    state_after: PlanState
    decisions: tuple[Decision, ...]
    commands: list[MoveCommand] = field(default_factory=list)
    answers: list[MigrateOutAnswer] = field(default_factory=list)
    duration_ms: float = 0.0


class Degradation(msgspec.Struct, kw_only=True):
    """Something the loop has to do without, and since when (Unix seconds)."""

    part: str
    """``redis``, ``database``, ``agents``, ``policy`` …"""
    reason: str
    since_s: float


class LoopStatus(msgspec.Struct, kw_only=True):
    """How the loop does; JSON in the Redis key ``loop``, written each tick."""

    leader: str
    epoch: int
    tick: int
    last_tick_at_s: float
    tick_ms: float
    interval_ms: int
    overruns: int
    """Ticks that took longer than the interval; the ticks they displaced are skipped, not queued."""
    instances: int
    commands_refused: int
    degraded: list[Degradation] = []
    pools: int = 0
    rounds_waiting: int = 0
    """Decided and not stored yet."""
    rounds_forgotten: int = 0
    """Given up because the database was away for too long."""

    def to_dict(self) -> dict[str, Any]:
        return msgspec.to_builtins(self)  # type: ignore[no-any-return]
