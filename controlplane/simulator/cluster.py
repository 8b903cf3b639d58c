"""The simulated fleet and what the control plane knows of it: engines, reports, ledger."""

from __future__ import annotations

from controlplane.scheduling import rescheduling
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import freeness
from controlplane.scheduling.policies import POLICIES
from controlplane.scheduling.snapshot import (
    ClassRule,
    ClassUse,
    ClusterSnapshot,
    InstanceSnapshot,
    RequestProfile,
)
from controlplane.simulator.result import SimulationConfig
from engine_agents.engines.segment import Segment
from engine_agents.engines.simulated import SimulatedEngine

TOLERANCE_S = 1e-9
"""A report expected at ``t + delay`` must be in when that moment, as a float, has come."""


def class_use(name: str, running: int, waiting: int) -> ClassUse:
    """A class on an instance as the engine reports it."""
    return ClassUse(name, running, waiting, 0)


class Member:
    """One instance: its engine, and its snapshot as the control plane last heard of it."""

    __slots__ = (
        "draining", "engine", "id", "moves", "pushed_s", "reports", "safe_on", "seen", "seq", "snapshot",
        "started_s",
    )  # fmt: skip

    def __init__(self, engine: SimulatedEngine, started_s: float) -> None:
        self.engine = engine
        self.reports = engine.reports
        self.id = f"i{engine.index:04d}"
        self.started_s = started_s
        self.pushed_s = -1.0
        """Time of the newest event pushed for the engine's next step end."""
        self.seq = 0
        self.seen = -1
        self.moves = 0
        """Migrations in and out under way, as commanded."""
        self.draining = False
        self.safe_on: Segment | None = None
        """No report on this stretch says that it must hand work away (:meth:`Cluster.nobody_gives`)."""
        self.snapshot = InstanceSnapshot(
            instance_id=self.id,
            capacity_tokens=engine.capacity * engine.block_size,
            used_tokens=0,
            reserved_tokens=0,
            running=0,
            waiting=0,
            head_of_line_tokens=0,
            queued_tokens=0,
            block_size_tokens=engine.block_size,
            relative_speed=engine.relative_speed,
        )


class Cluster:
    """All instances that are up, in the order in which they started."""

    def __init__(self, config: SimulationConfig, classes: dict[str, ClassRule]) -> None:
        self.config = config
        self._report_delay_s = config.report_delay_s - TOLERANCE_S
        self.classes = classes
        self.tracked = any(rule.target_load_tokens is not None for rule in classes.values())
        self.members: dict[str, Member] = {}
        self.everyone: list[Member] = []
        """Every instance that ever was; the position is the engine's number."""
        self.ledger = Ledger()
        self.starting = 0
        self._instances: tuple[InstanceSnapshot, ...] = ()

    def start(self, now: float, launched_s: float) -> Member:
        """A new instance is up."""
        config = self.config
        index = len(self.everyone)
        speeds = config.relative_speeds
        engine = SimulatedEngine(
            index,
            config.latency,
            mode=config.mode,
            relative_speed=speeds[index] if index < len(speeds) else 1.0,
            watermark_share=config.policy.dispatch.watermark_share,
            jump=config.jump,
            started_s=now,
            class_use=class_use if self.tracked else None,
        )
        member = Member(engine, launched_s)
        self.everyone.append(member)
        self.members[member.id] = member
        self._changed()
        return member

    def stop(self, member: Member) -> None:
        """It is gone."""
        del self.members[member.id]
        self.ledger.forget(member.id)
        self._changed()

    def _changed(self) -> None:
        self._instances = tuple(member.snapshot for member in self.members.values())

    def refresh(self, now: float) -> None:
        """Bring every snapshot to what the reports that arrived until ``now`` said."""
        at_s = now - self._report_delay_s
        for member in self.members.values():
            reports = member.reports
            if at_s >= reports.next_s:
                seen = reports.write(member.snapshot, at_s)
                if seen != member.seen:
                    member.seen = seen
                    self.ledger.reconcile(member.id, seen)

    def refresh_one(self, member: Member, now: float) -> None:
        """The same for one instance."""
        seen = member.reports.write(member.snapshot, now - self._report_delay_s)
        if seen != member.seen:
            member.seen = seen
            self.ledger.reconcile(member.id, seen)

    def nobody_gives(self, now: float) -> bool:
        """Is it certain that no instance is a source of migrations, whatever its newest report says in full?

        Asks the core's own rule of the most that a stretch of steps can come to use, once
        per stretch: most of the loop's rounds find nobody, and need no report then. For
        fleets without headroom and without a share that must stay free.
        """
        at_s = now - self._report_delay_s
        for member in self.members.values():
            reports = member.reports
            if reports.shown is member.safe_on and at_s < reports.switch_s:
                continue
            self.refresh_one(member, now)
            if not self._is_safe(member):
                return False
            member.safe_on = reports.shown
        return True

    def _is_safe(self, member: Member) -> bool:
        snapshot = member.snapshot
        used = snapshot.used_tokens
        snapshot.used_tokens = member.reports.most_used_tokens()
        rule = rescheduling.source_rule(snapshot, freeness(snapshot, {}), False, self.config.policy)
        snapshot.used_tokens = used
        return not rule

    def view(
        self, now: float, waiters: tuple[RequestProfile, ...] = (), queue_tokens: int = 0
    ) -> ClusterSnapshot:
        """What a policy sees now (after :meth:`refresh`)."""
        return ClusterSnapshot(now, self._instances, self.classes, waiters, queue_tokens, self.starting)

    def send(self, member: Member, tokens: int) -> int:
        """Enter something in the ledger before it is sent; returns its sequence number."""
        seq = member.seq = member.seq + 1
        size = member.engine.block_size
        self.ledger.sent(member.id, seq, -(-tokens // size) * size)
        return seq


def uses_queue(policy: SchedulingConfig) -> bool:
    """Does this policy bind late?"""
    return POLICIES[policy.policy].late_binding
