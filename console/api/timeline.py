"""The life of one request, from its record and its moves: what happened when, and where it was. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Move:
    """One migration of the request."""

    migration_id: str
    source: str
    destination: str
    state: str
    rule: str
    reason: str
    started_at: datetime
    finished_at: datetime | None
    downtime_ms: float | None
    stages: Sequence[Json]

    @property
    def done(self) -> bool:
        return self.state == "done" and self.finished_at is not None

    @property
    def frozen_at(self) -> datetime | None:
        """When its source stopped making tokens."""
        if self.finished_at is None:
            return None
        return self.finished_at - timedelta(milliseconds=self.downtime_ms or 0.0)


@dataclass(frozen=True, slots=True)
class Life:
    """What is known of a request; ``None`` for what has not happened or is not recorded."""

    arrived_at: datetime
    bound_at: datetime | None
    first_token_at: datetime | None
    finished_at: datetime | None
    outcome: str
    instances: Sequence[str]
    moves: Sequence[Move]


def timeline(life: Life) -> list[Json]:
    """Entries in order of time."""
    first = life.instances[0] if life.instances else None
    found = [_entry(life.arrived_at, "admitted")]
    if life.bound_at is not None:
        found.append(_entry(life.bound_at, "dispatched", instance=first))
    if life.first_token_at is not None:
        found.append(_entry(life.first_token_at, "first_token", instance=_owner(life, life.first_token_at)))
    for move in life.moves:
        found += _of_move(move)
    if life.finished_at is not None:
        found.append(_entry(life.finished_at, "finished", instance=_last(life), detail=life.outcome))
    return sorted(found, key=lambda entry: entry["at"])


def segments(life: Life, now: datetime) -> list[Json]:
    """Where its time went: queued, prefill, then decode on each instance with the gaps of its moves."""
    end = life.finished_at or now
    bound = min(life.bound_at or end, end)
    found = [_segment("queued", None, life.arrived_at, bound)]
    first = min(life.first_token_at or end, end)
    if life.bound_at is not None:
        found.append(_segment("prefill", _owner(life, bound), bound, first))
    begin = first
    for move in life.moves:
        if (
            move.done
            and move.frozen_at is not None
            and move.finished_at is not None
            and move.frozen_at > begin
        ):
            found.append(_segment("decode", move.source, begin, min(move.frozen_at, end)))
            found.append(
                _segment("downtime", move.destination, min(move.frozen_at, end), min(move.finished_at, end))
            )
            begin = min(move.finished_at, end)
    if life.first_token_at is not None:
        found.append(_segment("decode", _last(life), begin, end))
    return [each for each in found if each["end"] > each["begin"]]


def _of_move(move: Move) -> list[Json]:
    said = {"migration_id": move.migration_id}
    found = [
        _entry(
            move.started_at,
            "migration_started",
            instance=move.source,
            detail=f"to {move.destination}: {move.rule}",
            **said,
        )
    ]
    at = move.started_at
    for stage in move.stages:
        at += timedelta(milliseconds=float(stage.get("duration_ms") or 0.0))
        detail = f"stage {stage.get('stage')}: {stage.get('blocks')} blocks"
        found.append(_entry(at, "stage", instance=move.source, detail=detail, **said))
    if move.finished_at is not None:
        kind = "handover" if move.done else "migration_ended"
        detail = (
            f"{move.downtime_ms:.1f} ms without a token" if move.done and move.downtime_ms else move.reason
        )
        place = move.destination if move.done else move.source
        found.append(_entry(move.finished_at, kind, instance=place, detail=detail, **said))
    return found


def _owner(life: Life, at: datetime) -> str | None:
    owner = life.instances[0] if life.instances else None
    for move in life.moves:
        if move.done and move.finished_at is not None and move.finished_at <= at:
            owner = move.destination
    return owner


def _last(life: Life) -> str | None:
    return life.instances[-1] if life.instances else None


def _entry(at: datetime, kind: str, *, instance: str | None = None, migration_id: str | None = None,
           detail: str = "") -> Json:  # fmt: skip
    return {
        "at": at,
        "kind": kind,
        "instance": instance,
        "migration_id": migration_id,
        "detail": detail or "",
    }


def _segment(kind: str, instance: str | None, begin: datetime, end: datetime) -> Json:
    return {"kind": kind, "instance": instance, "begin": begin, "end": end}
