"""Storing instances: the row, its transitions, the audit entry and the live event go together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import InstanceChanged
from controlplane.fleet.models import Instance, InstanceTransition
from controlplane.fleet.models.instance import SYSTEM
from controlplane.records.models import Operation
from controlplane.records.operations import cancel_operation, finish_operation, start_operation
from controlplane.records.services import audit

__all__ = ["SYSTEM", "WISH_FIELDS", "FleetError", "begin", "change", "end_operation", "store", "store_wish"]

STATE_FIELDS = ["state", "cause", "changed_at", "failures"]
WISH_FIELDS = [
    *STATE_FIELDS,
    "accepting",
    "when_drained",
    "drain_deadline_at",
    "on_deadline",
    "operation_id",
]


class FleetError(ValueError):
    """The fleet cannot do what was asked; the text says why and what would be right."""


@transaction.atomic
def store(rows: Sequence[Instance], fields: Sequence[str] = STATE_FIELDS) -> None:
    """Write ``fields`` of the rows and the transitions they made; two statements, then the events."""
    if not rows:
        return
    Instance.objects.bulk_update(rows, list(fields))
    keep_transitions(rows)


def keep_transitions(rows: Sequence[Instance]) -> None:
    """Store and announce what the rows went through since they were read."""
    made = [each for row in rows for each in row.unsaved_transitions]
    InstanceTransition.objects.bulk_create(made)
    for row in rows:
        row.unsaved_transitions.clear()
    publish(*(_event(each) for each in made))


def change(
    instance: Instance, state: str, *, cause: str, actor: str = SYSTEM, now: datetime | None = None
) -> None:
    """One row to one state, stored. Raises ``TransitionError``."""
    instance.become(state, cause=cause, now=now or timezone.now(), actor=actor)
    store([instance])


def store_wish(instance: Instance, action: str, previous: str, actor: str, reason: str) -> Instance:
    """Store what is wanted of an instance, with an audit entry."""
    store([instance], WISH_FIELDS)
    audit(
        actor=actor,
        action=action,
        object_type="instance",
        object_id=instance.instance_id,
        before={"state": previous},
        after={
            "state": instance.state,
            "accepting": instance.accepting,
            "when_drained": instance.when_drained,
        },
        reason=reason,
    )
    return instance


def begin(instance: Instance, kind: str, *, actor: str, reason: str, note: str, total: int = 0) -> Operation:
    """A new operation of an instance; the one before it, if it still runs, is cancelled."""
    end_operation(instance, by=actor)
    operation = start_operation(
        kind=kind,
        object_type="instance",
        object_id=instance.instance_id,
        actor=actor,
        reason=reason,
        note=note,
        total=total,
    )
    instance.operation_id = operation.operation_id
    return operation


def end_operation(instance: Instance, *, by: str, done: bool = False) -> None:
    """What was under way for the instance has reached its end, or is not wanted any more."""
    if instance.operation_id:
        running = Operation.objects.filter(
            operation_id=instance.operation_id, state=Operation.State.RUNNING
        ).first()
        if running is not None:
            finish_operation(running) if done else cancel_operation(running, by=by)
    instance.operation_id = ""


def _event(made: InstanceTransition) -> InstanceChanged:
    return InstanceChanged.of(
        at=made.at,
        instance_id=made.instance.instance_id,
        state=made.state,
        previous=made.previous,
        actor=made.actor,
        reason=made.cause,
    )
