"""Rolling restarts, one step per look: the next instance only when the one before serves again."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import transaction

from controlplane.fleet import services
from controlplane.fleet.models import Instance, RollingRestart
from controlplane.records.models import Operation
from controlplane.records.operations import finish_operation, report_progress

State = Instance.State
ACTOR = "system:rolling-restart"

logger = logging.getLogger(__name__)


def advance_rolling_restarts(*, now: datetime) -> int:
    """Take every open rolling restart one step further; returns how many are open."""
    ids = list(RollingRestart.objects.filter(open=True).values_list("pk", flat=True))
    for pk in ids:
        _advance(pk, now)
    return len(ids)


@transaction.atomic
def _advance(pk: int, now: datetime) -> None:
    rollout = RollingRestart.objects.select_for_update().select_related("pool").get(pk=pk)
    if not rollout.open:
        return
    operation = Operation.objects.get(operation_id=rollout.operation_id)
    broken = _broken(rollout)
    if broken is not None:
        _give_up(rollout, operation, broken, now)
    elif _current_serves(rollout):
        rollout.current = ""
        _next(rollout, operation, now)
    rollout.save()


def _find(instance_id: str) -> Instance | None:
    return Instance.objects.select_related("pool").filter(instance_id=instance_id).first()


def _broken(rollout: RollingRestart) -> Instance | None:
    """The instance under way, where it failed after it was started anew."""
    for name in (rollout.current, rollout.surge):
        row = _find(name) if name else None
        started_anew = row is not None and row.pool_revision == rollout.pool.revision
        if row is not None and started_anew and row.state in {State.UNHEALTHY, State.QUARANTINED}:
            return row
    return None


def _current_serves(rollout: RollingRestart) -> bool:
    if not rollout.current:
        return True
    row = _find(rollout.current)
    if row is None or row.state in {State.STOPPED, State.QUARANTINED}:
        return row is None or row.operation_id == ""
    back = row.state == State.READY and row.accepting and row.pool_revision == rollout.pool.revision
    return back and not row.operation_id


def _next(rollout: RollingRestart, operation: Operation, now: datetime) -> None:
    while rollout.waiting:
        row = _find(rollout.waiting[0])
        if row is not None and row.state not in {State.STOPPED, State.STOPPING}:
            if _may_leave(rollout, row, operation, now):
                rollout.waiting = rollout.waiting[1:]
                rollout.current = row.instance_id
                _restart(rollout, row)
                _tell(rollout, operation, f"{row.instance_id} is being restarted", now)
            return
        rollout.waiting = rollout.waiting[1:]
    _finish(rollout, operation, now)


def _may_leave(rollout: RollingRestart, row: Instance, operation: Operation, now: datetime) -> bool:
    """Whether another instance serves meanwhile; if none can, one is added for the time."""
    others = rollout.pool.instances.filter(state=State.READY, accepting=True).exclude(pk=row.pk)
    if row.state != State.READY or others.exists():
        return True
    if not rollout.surge:
        added = services.add_instances(
            pool=rollout.pool,
            count=1,
            actor=ACTOR,
            reason="serves while the others are restarted",
            most=rollout.pool.max_instances + 1,
        )
        rollout.surge = added[0].instance_id
    _tell(rollout, operation, f"waiting for {rollout.surge or 'another instance'} to serve meanwhile", now)
    return False


def _restart(rollout: RollingRestart, row: Instance) -> None:
    services.restart_instance(
        instance=row,
        actor=ACTOR,
        reason=f"rolling restart to revision {rollout.pool.revision}",
        deadline_s=rollout.deadline_s,
        on_deadline=rollout.on_deadline,
    )


def _tell(rollout: RollingRestart, operation: Operation, note: str, now: datetime) -> None:
    done = operation.total - len(rollout.waiting) - bool(rollout.current)
    report_progress(operation, done=done, note=note, now=now)


def _finish(rollout: RollingRestart, operation: Operation, now: datetime) -> None:
    _retire_surge(rollout)
    rollout.open = False
    finish_operation(operation, now=now)


def _retire_surge(rollout: RollingRestart) -> None:
    row = _find(rollout.surge) if rollout.surge else None
    if row is not None and row.state not in {State.STOPPED, State.STOPPING}:
        services.retire_instance(instance=row, actor=ACTOR, reason="the others are back")


def _give_up(rollout: RollingRestart, operation: Operation, broken: Instance, now: datetime) -> None:
    """Nobody else is touched; the pool goes back to what worked, and the failed one with it."""
    rollout.open = False
    pool = rollout.pool
    problem = f"{broken.instance_id} does not come up with revision {pool.revision}: {broken.cause}"
    if any(getattr(pool, field) != value for field, value in rollout.before.items()):
        services.change_pool(pool=pool, actor=ACTOR, reason=problem[:500], **rollout.before)
        problem += "; the pool's former properties are back"
    if broken.instance_id == rollout.surge:
        services.retire_instance(instance=broken, actor=ACTOR, reason="it did not come up")
    else:
        _retire_surge(rollout)
        broken.pool = pool
        services.restart_instance(instance=broken, actor=ACTOR, reason="back to the former properties")
    finish_operation(operation, problem=problem, now=now)
    logger.warning("rolling restart of %s given up: %s", pool.name, problem)
