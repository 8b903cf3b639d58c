"""Operations of instances and pools, brought to how things stand; rolling restarts taken further.

Like the reconciliation it looks at rows and reports only, so that it does not
matter which process did the last step, nor whether one was missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from controlplane.fleet.models import Instance, Pool
from controlplane.records.models import Operation
from controlplane.records.operations import finish_operation, report_progress
from engine_agents.messages import InstanceStatus

State = Instance.State
GOALS: Mapping[str, frozenset[str]] = {
    "instance.drain": frozenset({State.DRAINED}),
    "instance.retire": frozenset({State.STOPPED}),
    "instance.stop": frozenset({State.STOPPED}),
    "instance.restart": frozenset({State.READY}),
    "instance.migrate_all": frozenset({State.READY}),
}
"""Kind of operation -> states in which it is done."""

Reports = Mapping[str, InstanceStatus]


def follow_operations(*, reports: Reports, now: datetime) -> int:
    """Bring every running operation of the fleet to how it stands; returns how many run."""
    kinds = [*GOALS, "pool.scale"]
    running = list(Operation.objects.filter(state=Operation.State.RUNNING, kind__in=kinds))
    if not running:
        return 0
    names = [each.object_id for each in running]
    rows = {row.instance_id: row for row in Instance.objects.filter(instance_id__in=names)}
    for operation in running:
        if operation.kind == "pool.scale":
            _follow_scale(operation, now)
        else:
            _follow_instance(operation, rows.get(operation.object_id), reports, now)
    return len(running)


def _follow_instance(operation: Operation, row: Instance | None, reports: Reports, now: datetime) -> None:
    if row is None:
        finish_operation(operation, problem="the instance is gone", now=now)
    elif row.state in GOALS[operation.kind] and _is_due(operation, row):
        finish_operation(operation, now=now)
        Instance.objects.filter(pk=row.pk, operation_id=operation.operation_id).update(operation_id="")
    elif row.state == State.QUARANTINED:
        finish_operation(operation, problem=row.cause, now=now)
    else:
        left = requests_on(reports.get(row.instance_id)) if row.state == State.DRAINING else None
        total = max(operation.total, left or 0)
        done = None if left is None else total - left
        report_progress(operation, done=done, total=total, note=_note(row, left, now), now=now)


def _is_due(operation: Operation, row: Instance) -> bool:
    """A restart begins and ends in ``ready``: it is over when the row changed after it began."""
    return row.accepting == (operation.kind != "instance.drain") and row.changed_at > operation.created_at


def requests_on(status: InstanceStatus | None) -> int | None:
    """Requests that run, wait or are on their way there; ``None``: not known."""
    return None if status is None else status.running + status.waiting + status.migrations_in


def _note(row: Instance, left: int | None, now: datetime) -> str:
    if row.state != State.DRAINING:
        return f"{row.state}: {row.cause}"
    text = "requests move away" if left is None else f"{left} requests left"
    if row.drain_deadline_at is None:
        return text
    late_s = (now - row.drain_deadline_at).total_seconds()
    if late_s < 0:
        return f"{text}; {-late_s:.0f} s to the deadline"
    return f"{text}; past its deadline, waiting as was chosen"


def _follow_scale(operation: Operation, now: datetime) -> None:
    pool = Pool.objects.filter(name=operation.object_id).first()
    if pool is None:
        finish_operation(operation, problem="the pool is gone", now=now)
        return
    newer = Operation.objects.filter(kind="pool.scale", object_id=pool.name, pk__gt=operation.pk).exists()
    if newer:
        finish_operation(operation, problem="superseded by a later change of size", now=now)
        return
    states = list(pool.instances.exclude(state=State.STOPPED).values_list("state", flat=True))
    ready = sum(state == State.READY for state in states)
    quarantined = sum(state == State.QUARANTINED for state in states)
    if ready == len(states) == pool.target_instances:
        finish_operation(operation, now=now)
    elif quarantined:
        finish_operation(
            operation, problem=f"{quarantined} instances are quarantined: see why they fail", now=now
        )
    else:
        away = abs(ready - pool.target_instances)
        note = f"target {pool.target_instances}, present {len(states)}, ready {ready}"
        report_progress(operation, done=max(0, operation.total - away), note=note, now=now)
