"""Carrying out what the policy says about the fleet's size: wishes in rows, followed by the fleet's jobs."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from controlplane.fleet import services as fleet
from controlplane.fleet.models import Instance, Pool, TransitionError
from controlplane.rebalancing.types import Round
from controlplane.scheduling.decisions import Decision, Drain, ScaleDown, ScaleUp, Undrain

ACTOR = "system:policy"
SCALING = (Drain, Undrain, ScaleUp, ScaleDown)

logger = logging.getLogger(__name__)


def carry_out_scaling(rounds: Iterable[Round]) -> None:
    """Add, drain, keep or retire instances as decided; what is no longer possible is logged and skipped."""
    for done in rounds:
        for decision in done.decisions:
            if isinstance(decision, SCALING):
                _try(decision, done.policy.pool_id)


def _try(decision: Decision, pool_id: int) -> None:
    try:
        _carry_out(decision, pool_id)
    except (TransitionError, fleet.FleetError, Instance.DoesNotExist) as error:
        logger.warning("%s was not carried out: %s", type(decision).__name__, error)


def _carry_out(decision: Decision, pool_id: int) -> None:
    match decision:
        case ScaleUp(instances, reason):
            _grow(Pool.objects.get(pk=pool_id), instances, reason)
        case ScaleDown(instance_id, reason):
            fleet.retire_instance(instance=_row(instance_id), actor=ACTOR, reason=reason)
        case Drain(instance_id, reason):
            fleet.drain_instance(instance=_row(instance_id), actor=ACTOR, reason=reason)
        case Undrain(instance_id, reason):
            _keep(_row(instance_id), reason)


def _grow(pool: Pool, wanted: int, reason: str) -> None:
    present = pool.instances.exclude(state=Instance.State.STOPPED).count()
    room = pool.max_instances - present
    if room < wanted:
        logger.warning("pool %s may grow by %d of the %d instances wanted", pool.name, max(0, room), wanted)
    if room > 0:
        fleet.add_instances(pool=pool, count=min(room, wanted), actor=ACTOR, reason=reason)


def _keep(row: Instance, reason: str) -> None:
    """Takes back a scale-down of the policy's own; what a person drained stays drained."""
    if row.stop_when_drained:
        fleet.undrain_instance(instance=row, actor=ACTOR, reason=reason)


def _row(instance_id: str) -> Instance:
    return Instance.objects.select_related("pool").get(instance_id=instance_id)
