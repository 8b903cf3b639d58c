"""Long actions: begun, told about and ended by whoever carries them out."""

from __future__ import annotations

import secrets
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from controlplane.records.models import Operation
from controlplane.records.origin import current_origin

State = Operation.State


def operations(*, state: str = "", object_type: str = "", object_id: str = "") -> QuerySet[Operation]:
    """Newest first, narrowed by what is given."""
    given = {"state": state, "object_type": object_type, "object_id": object_id}
    return Operation.objects.filter(**{name: value for name, value in given.items() if value})


def start_operation(
    *,
    kind: str,
    object_type: str,
    object_id: str,
    actor: str,
    reason: str = "",
    total: int = 0,
    note: str = "",
    now: datetime | None = None,
) -> Operation:
    """A new running operation; ``total`` 0 means that nobody knows how much there is to do."""
    moment = now or timezone.now()
    return Operation.objects.create(
        operation_id=f"op-{secrets.token_hex(6)}",
        kind=kind,
        object_type=object_type,
        object_id=object_id,
        total=total,
        note=note[:500],
        actor=actor,
        reason=reason[:500],
        request_id=current_origin().request_id,
        created_at=moment,
        updated_at=moment,
    )


def report_progress(
    operation: Operation,
    *,
    done: int | None = None,
    total: int | None = None,
    note: str | None = None,
    now: datetime | None = None,
) -> Operation:
    """Store how it stands, where that is news; nothing once it is over."""
    before = (operation.done, operation.total, operation.note)
    after = (
        operation.done if done is None else done,
        operation.total if total is None else total,
        operation.note if note is None else note[:500],
    )
    if operation.is_final or after == before:
        return operation
    operation.done, operation.total, operation.note = after
    operation.updated_at = now or timezone.now()
    operation.save(update_fields=["done", "total", "note", "updated_at"])
    return operation


def finish_operation(operation: Operation, *, problem: str = "", now: datetime | None = None) -> Operation:
    """It succeeded, or failed with ``problem``. The first end counts."""
    return _end(operation, State.FAILED if problem else State.SUCCEEDED, problem, now)


def cancel_operation(operation: Operation, *, by: str, now: datetime | None = None) -> Operation:
    return _end(operation, State.CANCELLED, f"cancelled by {by}", now)


def _end(operation: Operation, state: str, problem: str, now: datetime | None) -> Operation:
    if operation.is_final:
        return operation
    if state == State.SUCCEEDED and operation.total:
        operation.done = operation.total
    operation.finish(state, problem=problem, now=now or timezone.now())
    operation.save(update_fields=["state", "problem", "done", "updated_at", "finished_at"])
    return operation


def delete_operations_before(moment: datetime) -> int:
    """Retention: forget operations that ended before ``moment``; returns how many."""
    deleted, _ = Operation.objects.filter(finished_at__lt=moment).delete()
    return deleted
