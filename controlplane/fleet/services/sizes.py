"""How many instances a pool should have: asked for by people and the policy, held, recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import PoolScaled
from controlplane.fleet.models import Instance, Pool, ScalingRecord
from controlplane.fleet.services.lifecycle import add_instances
from controlplane.fleet.services.rows import FleetError
from controlplane.fleet.services.wishes import retire_instance, undrain_instance
from controlplane.records.models import Operation
from controlplane.records.operations import start_operation
from controlplane.records.services import audit

State = Instance.State
Action = ScalingRecord.Action
LONGEST_HOLD = timedelta(days=7)
LEAVES_FIRST = (
    State.PENDING,
    State.QUARANTINED,
    State.UNHEALTHY,
    State.STARTING,
    State.WARMING,
    State.DRAINED,
    State.DRAINING,
    State.READY,
)
"""Who goes when people make a pool smaller: what does not serve before what does."""


@transaction.atomic
def scale_pool(
    *, pool: Pool, target: int, actor: str, reason: str = "", running: Mapping[str, int] | None = None
) -> Operation:
    """So many instances: new ones start, or those with the least work are drained and stopped.

    ``running`` tells how many requests each has (those with few leave first). Raises :class:`FleetError`
    outside ``min_instances`` … ``max_instances``.
    """
    if not pool.min_instances <= target <= pool.max_instances:
        raise FleetError(
            f"target is {target}: pool {pool.name} may have {pool.min_instances} to {pool.max_instances} "
            "instances (change min_instances or max_instances first)"
        )
    before = pool.target_instances
    rows = list(Instance.objects.select_for_update().filter(pool=pool).exclude(state__in=GONE))
    staying = [row for row in rows if not row.stop_when_drained]
    change = target - len(staying)
    operation = start_operation(
        kind="pool.scale",
        object_type="pool",
        object_id=pool.name,
        actor=actor,
        reason=reason,
        total=abs(change),
        note=f"from {len(staying)} to {target}",
    )
    ids = _grow(pool, rows, change, actor, reason) if change > 0 else []
    ids += _shrink(staying, -change, actor, reason, running or {})
    Pool.objects.filter(pk=pool.pk).update(target_instances=target)
    pool.target_instances = target
    audit(
        actor=actor,
        action="pool.scale",
        object_type="pool",
        object_id=pool.name,
        before={"instances": len(staying)},
        after={"instances": target},
        reason=reason,
    )
    if change:
        record_scaling(
            pool=pool,
            action=Action.UP if change > 0 else Action.DOWN,
            actor=actor,
            reason=reason,
            before=before,
            after=target,
            instance_ids=ids,
            now=timezone.now(),
        )
    return operation


GONE = frozenset({State.STOPPED, State.STOPPING})


def _grow(pool: Pool, rows: Sequence[Instance], count: int, actor: str, reason: str) -> list[str]:
    """Those on their way out come back first, then new ones."""
    kept = [row for row in rows if row.stop_when_drained][:count]
    for row in kept:
        undrain_instance(instance=row, actor=actor, reason=reason)
    missing = count - len(kept)
    added = add_instances(pool=pool, count=missing, actor=actor, reason=reason) if missing else []
    return [row.instance_id for row in (*kept, *added)]


def _shrink(
    rows: Sequence[Instance], count: int, actor: str, reason: str, running: Mapping[str, int]
) -> list[str]:
    order = {state: place for place, state in enumerate(LEAVES_FIRST)}
    leaving = sorted(
        rows, key=lambda row: (order[State(row.state)], running.get(row.instance_id, 0), -row.pk)
    )[: max(0, count)]
    for row in leaving:
        retire_instance(instance=row, actor=actor, reason=reason)
    return [row.instance_id for row in leaving]


@transaction.atomic
def hold_scaling(*, pool: Pool, until: datetime, actor: str, reason: str = "") -> Pool:
    """Until then the policy does not change the pool's size (what it would do is recorded). People may.

    Raises :class:`FleetError` for a moment that is past or more than a week ahead.
    """
    now = timezone.now()
    if not now < until <= now + LONGEST_HOLD:
        raise FleetError(f"until is {until:%Y-%m-%d %H:%M:%S %Z}: it must lie ahead, at most 7 days")
    _set_hold(pool, until, actor, reason)
    _note_hold(pool, Action.HOLD, actor, f"until {until:%Y-%m-%d %H:%M:%S} UTC: {reason}".rstrip(": "), now)
    return pool


@transaction.atomic
def release_scaling(*, pool: Pool, actor: str, reason: str = "") -> Pool:
    """Let the policy scale again."""
    if pool.scaling_held_until is not None:
        _set_hold(pool, None, "", "")
        _note_hold(pool, Action.RESUME, actor, reason, timezone.now())
    return pool


def _set_hold(pool: Pool, until: datetime | None, actor: str, reason: str) -> None:
    pool.scaling_held_until, pool.scaling_held_by = until, actor[:150]
    pool.scaling_hold_reason = reason[:300]
    pool.save(update_fields=["scaling_held_until", "scaling_held_by", "scaling_hold_reason"])


def _note_hold(pool: Pool, action: str, actor: str, reason: str, now: datetime) -> None:
    audit(
        actor=actor, action=f"pool.scaling_{action}", object_type="pool", object_id=pool.name, reason=reason
    )
    target = pool.target_instances
    record_scaling(pool=pool, action=action, actor=actor, reason=reason, before=target, after=target, now=now)


def record_scaling(
    *,
    pool: Pool,
    action: str,
    actor: str,
    reason: str,
    before: int,
    after: int,
    now: datetime,
    instance_ids: Sequence[str] = (),
    problem: str = "",
) -> ScalingRecord:
    """Remember one decision about the size; with a ``problem`` it was not carried out."""
    row = ScalingRecord.objects.create(
        pool=pool,
        at=now,
        action=action,
        actor=actor,
        reason=reason[:500],
        target_before=before,
        target_after=after,
        instance_ids=list(instance_ids),
        carried_out=not problem,
        problem=problem[:500],
    )
    publish(
        PoolScaled.of(
            at=now,
            pool=pool.name,
            action=action,
            target=after,
            previous=before,
            actor=actor,
            reason=row.reason,
            problem=row.problem,
        )
    )
    return row
