"""What one outgoing migration is and how far it has come: the source of its outcomes."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine_agents.engines.port import Frozen, Pinned
from engine_agents.live_requests import LiveRequest
from engine_agents.messages import MigrationOutcome, StageRecord
from engine_agents.migration.handshake import MoveState

DRAIN = "drain"
"""The rule under which everything leaves, whatever it is doing."""


@dataclass(frozen=True, slots=True)
class Departure:
    """What is fixed of one outgoing migration."""

    migration_id: str
    live: LiveRequest
    gateway_id: str
    gateway_incarnation: str
    source_instance_id: str
    destination_instance_id: str
    rule: str
    why: str


@dataclass(slots=True)
class Progress:
    """What is measured of it. Times are ``perf_counter`` (an event loop's clock may tick in ms)."""

    stages: list[StageRecord] = field(default_factory=list)
    stage_began_at: float = 0.0
    stage_bytes: int = 0
    frozen_at: float | None = None
    downtime_ms: float = 0.0
    tokens_at_start: int = 0
    tokens_moved: int = 0

    def begin_stage(self, now: float) -> None:
        self.stage_began_at, self.stage_bytes = now, 0

    def end_stage(self, copied: Pinned, pinned_next: Pinned, duration_s: float) -> None:
        self.stages.append(
            StageRecord(
                stage=len(self.stages),
                blocks=copied.blocks,
                bytes=self.stage_bytes,
                duration_ms=1e3 * duration_s,
                tokens_meanwhile=pinned_next.output_tokens - copied.output_tokens,
            )
        )

    def end_pause(self, now: float) -> None:
        """The request runs again, here or there (or is over)."""
        if self.frozen_at is not None and not self.downtime_ms:
            self.downtime_ms = 1e3 * (now - self.frozen_at)

    def moved(self, frozen: Frozen) -> None:
        """The hand-over itself is the last stage."""
        self.stages.append(
            StageRecord(
                stage=len(self.stages),
                blocks=frozen.blocks,
                bytes=len(frozen.tail),
                duration_ms=self.downtime_ms,
                tokens_meanwhile=0,
            )
        )


def outcome(
    departure: Departure, progress: Progress, state: MoveState, reason: str, now_s: float
) -> MigrationOutcome:
    """How the migration stands. To people, being judged is still being in doubt."""
    live = departure.live
    return MigrationOutcome(
        migration_id=departure.migration_id,
        request_id=live.request_id,
        source_instance_id=departure.source_instance_id,
        destination_instance_id=departure.destination_instance_id,
        rule=departure.rule,
        why=departure.why,
        slo_class=live.slo_class,
        tenant=live.tenant,
        state=MoveState.IN_DOUBT.value if state is MoveState.JUDGED else state.value,
        reason=reason,
        stages=list(progress.stages),
        downtime_ms=progress.downtime_ms,
        tokens_at_start=progress.tokens_at_start,
        tokens_moved=progress.tokens_moved,
        at_s=now_s,
    )
