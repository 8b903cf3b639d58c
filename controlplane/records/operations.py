"""Long actions: begun, advanced and ended by the app that carries them out."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controlplane.events.publish import publish
from controlplane.events.schema import OperationChanged
from controlplane.records.models import Operation

State = Operation.State


def begin(
    *,
    kind: str,
    object_type: str,
    object_id: str,
    actor: str,
    now: datetime,
    reason: str = "",
    step: str = "",
    total: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Operation:
    """A new running operation."""
    row = Operation.objects.create(
        operation_id=f"op-{secrets.token_hex(6)}",
        kind=kind,
        object_type=object_type,
        object_id=object_id,
        step=step[:300],
        total=total,
        parameters=dict(parameters or {}),
        requested_by=actor,
        reason=reason[:500],
        started_at=now,
        updated_at=now,
    )
    publish(_event(row))
    return row


def advance(
    row: Operation, *, step: str, now: datetime, done: int | None = None, total: int | None = None
) -> Operation:
    """Store how far it is, if that is news."""
    if row.advance(step=step, now=now, done=done, total=total):
        row.save(update_fields=["step", "done", "total", "parameters", "updated_at"])
        publish(_event(row))
    return row


def finish(row: Operation, *, now: datetime, step: str = "") -> Operation:
    if not row.is_final:
        row.advance(step=step or row.step, now=now, done=row.total or row.done)
    return _end(row, State.DONE, now)


def fail(row: Operation, *, problem: str, now: datetime) -> Operation:
    return _end(row, State.FAILED, now, problem)


def cancel(row: Operation, *, by: str, now: datetime) -> Operation:
    return _end(row, State.CANCELLED, now, f"cancelled by {by}")


def _end(row: Operation, state: str, now: datetime, problem: str = "") -> Operation:
    if row.end(state, now=now, problem=problem):
        row.save()
        publish(_event(row))
    return row


def _event(row: Operation) -> OperationChanged:
    return OperationChanged.of(
        at=row.updated_at,
        operation_id=row.operation_id,
        kind=row.kind,
        object_type=row.object_type,
        object_id=row.object_id,
        state=row.state,
        step=row.step,
        done=row.done,
        total=row.total,
        problem=row.problem,
        actor=row.requested_by,
    )
