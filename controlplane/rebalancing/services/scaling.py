"""Carrying out what the policy says about the fleet's size: wishes in rows, followed by the fleet's jobs.

Every decision leaves a ``ScalingRecord`` with its reason, one that was held back or is no longer possible
included; the same refusal again and again is recorded once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from controlplane.fleet import services as fleet
from controlplane.fleet.models import Instance, Pool, ScalingRecord, TransitionError
from controlplane.rebalancing.types import Round
from controlplane.scheduling.decisions import Decision, Drain, ScaleDown, ScaleUp, Undrain

ACTOR = "system:policy"
SCALING = (Drain, Undrain, ScaleUp, ScaleDown)
Action = ScalingRecord.Action
ACTIONS: dict[type, str] = {
    ScaleUp: Action.UP,
    ScaleDown: Action.DOWN,
    Undrain: Action.CANCEL_DOWN,
    Drain: Action.DRAIN,
}

logger = logging.getLogger(__name__)


def carry_out_scaling(rounds: Iterable[Round]) -> None:
    """Add, drain, keep or retire instances as decided; what is not possible is recorded with why."""
    for done in rounds:
        for decision in done.decisions:
            if isinstance(decision, SCALING):
                _settle(decision, done.policy.pool_id, done.taken_at)


def _settle(decision: Drain | Undrain | ScaleUp | ScaleDown, pool_id: int, now: datetime) -> None:
    pool = Pool.objects.get(pk=pool_id)
    before = pool.target_instances
    names: list[str] = []
    try:
        _require_not_held(pool, now)
        with transaction.atomic():
            names = _carry_out(decision, pool)
        problem = ""
    except (TransitionError, fleet.FleetError) as error:
        problem = str(error)
    pool.refresh_from_db()
    action = ACTIONS[type(decision)]
    if problem and _is_known(pool, action, problem):
        return
    if problem:
        logger.warning("%s of pool %s was not carried out: %s", action, pool.name, problem)
    fleet.record_scaling(
        pool=pool,
        action=action,
        actor=ACTOR,
        reason=decision.reason,
        before=before,
        after=pool.target_instances,
        instance_ids=names or _named(decision),
        problem=problem,
        now=now,
    )


def _require_not_held(pool: Pool, now: datetime) -> None:
    if pool.scaling_is_held(now):
        raise fleet.FleetError(
            f"scaling is held until {pool.scaling_held_until:%Y-%m-%d %H:%M:%S} UTC by {pool.scaling_held_by}"
        )


def _is_known(pool: Pool, action: str, problem: str) -> bool:
    last = ScalingRecord.objects.filter(pool=pool).first()
    return last is not None and (last.action, last.problem) == (action, problem[:500])


def _named(decision: Decision) -> list[str]:
    return [] if isinstance(decision, ScaleUp) else [decision.instance_id]  # type: ignore[union-attr]


def _carry_out(decision: Drain | Undrain | ScaleUp | ScaleDown, pool: Pool) -> list[str]:
    match decision:
        case ScaleUp(instances, reason):
            return _grow(pool, instances, reason)
        case ScaleDown(instance_id, reason):
            fleet.remove_instance(instance=_row(instance_id), actor=ACTOR, reason=reason)
        case Drain(instance_id, reason):
            fleet.drain_instance(instance=_row(instance_id), actor=ACTOR, reason=reason)
        case Undrain(instance_id, reason):
            _keep(_row(instance_id), reason)
    return _named(decision)


def _grow(pool: Pool, wanted: int, reason: str) -> list[str]:
    present = pool.instances.exclude(state=Instance.State.STOPPED).count()
    room = pool.max_instances - present
    if room <= 0:
        raise fleet.FleetError(f"the pool has {present} instances and may have {pool.max_instances}")
    added = fleet.add_instances(pool=pool, count=min(room, wanted), actor=ACTOR, reason=reason)
    return [row.instance_id for row in added]


def _keep(row: Instance, reason: str) -> None:
    """Takes back a scale-down of the policy's own; what a person drained stays drained."""
    if not row.stop_when_drained:
        raise fleet.FleetError(f"{row.instance_id} was drained by a person and stays drained")
    fleet.undrain_instance(instance=row, actor=ACTOR, reason=reason)


def _row(instance_id: str) -> Instance:
    row = Instance.objects.select_related("pool").filter(instance_id=instance_id).first()
    if row is None:
        raise fleet.FleetError(f"there is no instance {instance_id}")
    return row
