"""Moves of requests: asked for by people, answered and reported by source agents."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import MigrationChanged
from controlplane.fleet.agents import MoveCommand
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import Instance
from controlplane.rebalancing.models import RequestMigration
from controlplane.rebalancing.patience import Patience
from controlplane.records.services import audit
from engine_agents.messages import MigrateOut, MigrateOutAnswer, MigrationOutcome

State = RequestMigration.State
MANUAL_RULE = "manual"
MANUAL_BUDGET_TOKENS = 2**31 - 1


class MoveError(ValueError):
    """A manual move that cannot be; the text says why."""


@transaction.atomic
def apply_outcomes(batch: Sequence[MigrationOutcome]) -> list[RequestMigration]:
    """Bring rows to what sources report; a report of an unknown migration makes its row.

    Several reports of one migration are applied in order. Returns the rows that
    changed. Three statements, whatever the length of the batch.
    """
    if not batch:
        return []
    ids = {outcome.migration_id for outcome in batch}
    rows = {row.migration_id: row for row in RequestMigration.objects.filter(migration_id__in=ids)}
    new: dict[str, RequestMigration] = {}
    changed: dict[str, RequestMigration] = {}
    for outcome in batch:
        row = rows.get(outcome.migration_id)
        if row is None:
            row = rows[outcome.migration_id] = new[outcome.migration_id] = _row_of(outcome)
        if row.follow(outcome, stages=_stages(outcome), at=_moment(outcome.at_s)):
            changed[row.migration_id] = row
    RequestMigration.objects.bulk_create(new.values())
    known = [row for key, row in changed.items() if key not in new]
    RequestMigration.objects.bulk_update(known, FOLLOWED_FIELDS)
    publish(*(migration_event(row, at=_moment(batch[-1].at_s)) for row in changed.values()))
    return list(changed.values())


FOLLOWED_FIELDS = [
    "request_id",
    "state",
    "reason",
    "why",
    "slo_class",
    "tenant",
    "stages",
    "tokens_at_start",
    "tokens_moved",
    "finished_at",
    "downtime_ms",
]


def _row_of(outcome: MigrationOutcome) -> RequestMigration:
    return RequestMigration(
        migration_id=outcome.migration_id,
        request_id=outcome.request_id,
        source=outcome.source_instance_id,
        destination=outcome.destination_instance_id,
        rule=outcome.rule,
        started_at=_moment(outcome.at_s),
    )


def _stages(outcome: MigrationOutcome) -> list[dict[str, Any]]:
    return msgspec.to_builtins(outcome.stages)  # type: ignore[no-any-return]


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, tz=UTC)


@transaction.atomic
def request_migration(
    *, request_id: str, source_id: str, destination_id: str, actor: str, reason: str = ""
) -> RequestMigration:
    """Wish one request moved; the loop commands it at its next tick.

    Raises :class:`MoveError` if source and destination cannot be, or are the
    same, or if the request is being moved already.
    """
    source, destination = _instance(source_id, "source"), _instance(destination_id, "destination")
    _check_move(source, destination, request_id)
    now = timezone.now()
    row = RequestMigration.objects.create(
        migration_id=f"manual-{secrets.token_hex(6)}",
        request_id=request_id,
        source=source_id,
        destination=destination_id,
        rule=MANUAL_RULE,
        why=reason or f"asked for by {actor}",
        state=State.REQUESTED,
        started_at=now,
        requested_by=actor,
    )
    audit(
        actor=actor,
        action="request.migrate",
        object_type="request",
        object_id=request_id,
        before={"instance": source_id},
        after={"instance": destination_id, "migration_id": row.migration_id},
        reason=reason,
    )
    publish(migration_event(row, at=now))
    return row


def check_wish(*, request_id: str, source_id: str, destination_id: str) -> None:
    """Raises :class:`MoveError` where such a move cannot be asked for now."""
    _check_move(_instance(source_id, "source"), _instance(destination_id, "destination"), request_id)


def _check_move(source: Instance, destination: Instance, request_id: str) -> None:
    if source.pk == destination.pk:
        raise MoveError("source and destination are the same instance; name another destination")
    if source.pool_id != destination.pool_id:
        raise MoveError(
            f"{source.instance_id} serves pool {source.pool.name} and {destination.instance_id} "
            f"pool {destination.pool.name}; a request can only move within its pool"
        )
    if destination.state != Instance.State.READY:
        raise MoveError(f"destination {destination.instance_id} is {destination.state}, not ready")
    under_way = RequestMigration.objects.filter(request_id=request_id).exclude(
        state__in=RequestMigration.FINAL_STATES
    )
    if under_way.exists():
        raise MoveError(f"request {request_id} is being moved already; wait for the end of that migration")


def _instance(instance_id: str, part: str) -> Instance:
    row = Instance.objects.select_related("pool").filter(instance_id=instance_id).first()
    if row is None:
        raise MoveError(f"{part} {instance_id!r} is not an instance of this fleet")
    return row


def manual_command(row: RequestMigration, seen: Sequence[SeenStatus], *, epoch: int) -> MoveCommand | None:
    """The command of a requested move; ``None`` while its destination is not reported."""
    endpoints = {item.status.instance_id: item.status.peer_endpoint for item in seen}
    if row.destination not in endpoints:
        return None
    message = MigrateOut(
        migration_id=row.migration_id,
        destination_instance_id=row.destination,
        destination_peer_endpoint=endpoints[row.destination],
        rule=row.rule,
        lease_epoch=epoch,
        budget_tokens=MANUAL_BUDGET_TOKENS,
        request_id=row.request_id,
    )
    return MoveCommand(row.source, message)


def close_lost_migrations(*, patience: Patience, now_s: float, now: datetime) -> int:
    """End migrations of which nothing was heard for too long (their source died); returns how many.

    How long is judged by ``patience`` on the monotonic ``now_s``: a clock that was set does not end moves.
    """
    begun = {
        row.migration_id: row
        for row in RequestMigration.objects.exclude(state__in=RequestMigration.FINAL_STATES)
    }
    lost = [begun[name] for name in patience.overdue(begun, now_s=now_s)]
    for row in lost:
        row.lose(f"no word from {row.source} for {patience.limit_s:.0f} s", now=now)
    RequestMigration.objects.bulk_update(lost, ["state", "reason", "finished_at"])
    publish(*(migration_event(row, at=now) for row in lost))
    return len(lost)


def record_manual_answers(
    answers: Iterable[tuple[RequestMigration, MigrateOutAnswer]], *, now: datetime
) -> None:
    """Store what the sources said of manual moves: commanded, or refused and why. One statement.

    A row that an outcome has taken further in the meantime is left alone.
    """
    rows = [_answered(row, answer, now) for row, answer in answers]
    if rows:
        RequestMigration.objects.bulk_update(
            rows, ["state", "reason", "why", "slo_class", "tenant", "tokens_at_start", "finished_at"]
        )
        publish(*(migration_event(row, at=now) for row in rows))


def _answered(row: RequestMigration, answer: MigrateOutAnswer, now: datetime) -> RequestMigration:
    if not answer.accepted:
        row.refuse(answer.reason or "the source refused without a reason", now=now)
        return row
    row.state = State.COMMANDED
    if answer.planned:
        move = answer.planned[0]
        row.slo_class, row.tenant, row.tokens_at_start = move.slo_class, move.tenant, move.tokens
    return row


def migration_event(row: RequestMigration, *, at: datetime) -> MigrationChanged:
    """What dashboards are told of a migration's row."""
    return MigrationChanged.of(
        at=at,
        migration_id=row.migration_id,
        request_id=row.request_id,
        source_id=row.source,
        destination_id=row.destination,
        rule=row.rule,
        why=row.why,
        state=row.state,
        reason=row.reason,
        slo_class=row.slo_class,
        tenant=row.tenant,
        downtime_ms=row.downtime_ms,
        actor=row.requested_by,
    )
