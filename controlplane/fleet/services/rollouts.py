"""Rolling restarts: begun and given up here, taken further by :mod:`controlplane.fleet.rolling`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from controlplane.fleet.models import Instance, Pool, RollingRestart
from controlplane.fleet.services.pools import change_pool
from controlplane.fleet.services.rows import FleetError
from controlplane.fleet.services.wishes import OnDeadline, _check_deadline
from controlplane.records.models import Operation
from controlplane.records.operations import cancel_operation, start_operation
from controlplane.records.services import audit

State = Instance.State


@transaction.atomic
def start_rolling_restart(
    *,
    pool: Pool,
    actor: str,
    reason: str = "",
    engine_args: Mapping[str, Any] | None = None,
    migration_args: Mapping[str, Any] | None = None,
    model_path: str | None = None,
    python: str | None = None,
    kv_memory_bytes: int | None = None,
    deadline_s: float | None = None,
    on_deadline: str = OnDeadline.WAIT,
) -> Operation:
    """Start every instance again, one after the other, with new properties where some are given.

    Each is drained first, so that no request fails; a pool of one gets a second for the time. The first
    that does not come up ends it: the pool goes back to the former properties and the failed one is
    started again with them. Raises :class:`FleetError`, ``ValidationError``.
    """
    _check_deadline(deadline_s, on_deadline)
    before = {field: getattr(pool, field) for field in Pool.ENGINE_FIELDS}
    given = {
        "engine_args": engine_args,
        "migration_args": migration_args,
        "model_path": model_path,
        "python": python,
        "kv_memory_bytes": kv_memory_bytes,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    serving = {State.READY, State.DRAINING, State.DRAINED, State.UNHEALTHY, *Instance.RISING_STATES}
    names = list(
        pool.instances.filter(state__in=serving)
        .exclude(when_drained=Instance.WhenDrained.STOP)
        .values_list("instance_id", flat=True)
    )
    if not names:
        raise FleetError(f"pool {pool.name} has no running instance to restart")
    if RollingRestart.objects.filter(pool=pool, open=True).exists():
        raise FleetError(f"pool {pool.name} is being restarted already: wait for its end or cancel it")
    if changes:
        change_pool(pool=pool, actor=actor, reason=reason, **changes)
    return _begin(pool, names, before, actor, reason, deadline_s, on_deadline)


def _begin(
    pool: Pool,
    names: list[str],
    before: Mapping[str, Any],
    actor: str,
    reason: str,
    deadline_s: float | None,
    on_deadline: str,
) -> Operation:
    operation = start_operation(
        kind="pool.rolling_restart",
        object_type="pool",
        object_id=pool.name,
        actor=actor,
        reason=reason,
        total=len(names),
        note=f"revision {pool.revision}: {', '.join(names)}",
    )
    try:
        with transaction.atomic():
            RollingRestart.objects.create(
                pool=pool,
                operation_id=operation.operation_id,
                waiting=names,
                before=dict(before),
                deadline_s=deadline_s,
                on_deadline=on_deadline,
            )
    except IntegrityError as error:
        raise FleetError(f"pool {pool.name} is being restarted already") from error
    audit(
        actor=actor,
        action="pool.rolling_restart",
        object_type="pool",
        object_id=pool.name,
        before=dict(before),
        after={field: getattr(pool, field) for field in Pool.ENGINE_FIELDS},
        reason=reason,
    )
    return operation


@transaction.atomic
def cancel_rolling_restart(*, pool: Pool, actor: str, reason: str = "") -> Operation:
    """No further instance is restarted; the one under way finishes. The pool's properties stay as they are.

    Raises :class:`FleetError` when none is under way.
    """
    rollout = RollingRestart.objects.select_for_update().filter(pool=pool, open=True).first()
    if rollout is None:
        raise FleetError(f"pool {pool.name} is not being restarted")
    rollout.open = False
    rollout.save(update_fields=["open"])
    operation = Operation.objects.get(operation_id=rollout.operation_id)
    cancel_operation(operation, by=actor)
    audit(
        actor=actor,
        action="pool.rolling_restart_cancel",
        object_type="pool",
        object_id=pool.name,
        reason=reason,
    )
    return operation
