"""An instance's life: added, placed, failed, quarantined, stopped."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from controlplane.fleet import failures
from controlplane.fleet.agents import AgentClient, AgentError, ClusterAwayError, Placement
from controlplane.fleet.models import Instance, InstanceTransition, Pool
from controlplane.fleet.services.rows import (
    STATE_FIELDS,
    SYSTEM,
    WISH_FIELDS,
    FleetError,
    change,
    end_operation,
    keep_transitions,
    store,
)
from controlplane.records.services import audit
from engine_agents.config import AgentConfig

State = Instance.State
WhenDrained = Instance.WhenDrained


@transaction.atomic
def add_instances(*, pool: Pool, count: int, actor: str, reason: str = "", most: int = 0) -> list[Instance]:
    """New rows in state ``pending`` (stopped ones come back first); the fleet's job starts their agents.

    Raises :class:`FleetError` if the pool would grow beyond ``max_instances`` (or ``most``).
    """
    rows = list(Instance.objects.select_for_update().filter(pool=pool))
    present = sum(row.state != State.STOPPED for row in rows)
    limit = most or pool.max_instances
    if count < 1:
        raise FleetError(f"count is {count}: at least one instance must be asked for")
    if present + count > limit:
        raise FleetError(
            f"pool {pool.name} has {present} instances and may have {limit}; "
            f"{count} more are too many (raise max_instances first)"
        )
    now, cause = timezone.now(), reason or f"asked for by {actor}"
    back = [row for row in rows if row.state == State.STOPPED][:count]
    for row in back:
        row.forget_drain()
        row.failures = 0
        row.become(State.PENDING, cause=cause, now=now, actor=actor)
    store(back, WISH_FIELDS)
    names = _free_names(pool.name, {row.instance_id for row in rows}, count - len(back))
    new = _create(pool, names, cause, actor, now)
    Pool.objects.filter(pk=pool.pk).update(target_instances=present + count)
    pool.target_instances = present + count
    for row in (*back, *new):
        audit(
            actor=actor,
            action="instance.add",
            object_type="instance",
            object_id=row.instance_id,
            reason=reason,
        )
    return [*back, *new]


def start_instance(*, instance: Instance, agents: AgentClient, actor: str = SYSTEM) -> Instance:
    """Place the agent of an instance that does not run; readiness is learnt from its reports.

    Does nothing if another process started it meanwhile. A failed placement
    leaves the row ``unhealthy`` with the cause; it does not raise. Raises
    :class:`ClusterAwayError` while nothing can be placed; the row waits then.
    """
    agents.require_cluster()
    if not _claim_start(instance, actor):
        return instance
    try:
        agents.start(agent_config(instance), placement(instance.pool))
    except ClusterAwayError as error:
        change(instance, State.PENDING, cause=f"waits: {error}")
        raise
    except AgentError as error:
        mark_unhealthy(instance=instance, cause=f"did not start: {error}", now=timezone.now())
    return instance


def begin_stop(*, instance: Instance, cause: str, now: datetime) -> Instance:
    """Its agent is to be ended; what then becomes of it, ``when_drained`` says."""
    change(instance, State.STOPPING, cause=cause, now=now)
    return instance


@transaction.atomic
def finish_stop(*, instance: Instance, now: datetime) -> Instance:
    """Its agent is gone: it stays stopped, or is started again where that is wanted."""
    instance.ended_incarnation = instance.incarnation
    instance.become(State.STOPPED, cause=instance.cause, now=now)
    store([instance], [*STATE_FIELDS, "ended_incarnation"])
    if instance.when_drained == WhenDrained.STOP:
        instance.accepting, instance.when_drained = True, WhenDrained.STAY
        store([instance], WISH_FIELDS)
    elif instance.when_drained == WhenDrained.RESTART or not instance.accepting:
        _come_back(instance, now)
    return instance


def _come_back(instance: Instance, now: datetime) -> None:
    """Started again; one that was to stay drained comes back drained."""
    if instance.when_drained == WhenDrained.RESTART:
        instance.accepting = True
    instance.when_drained, instance.drain_deadline_at = WhenDrained.STAY, None
    instance.become(State.PENDING, cause="to be started again", now=now)
    store([instance], WISH_FIELDS)


def mark_unhealthy(*, instance: Instance, cause: str, now: datetime) -> Instance:
    """It failed: what the operator must know goes into the row, with the end of the agent's log."""
    instance.become(State.UNHEALTHY, cause=cause, now=now)
    instance.failure_log = failures.log_tail(instance.instance_id)
    store([instance], ["state", "cause", "changed_at", "failures", "failure_log"])
    return instance


def quarantine(*, instance: Instance, now: datetime) -> Instance:
    """Stop trying; a person has to look and release it."""
    cause = f"failed {instance.failures} times in a row; last: {instance.cause}"
    change(instance, State.QUARANTINED, cause=cause, now=now)
    audit(
        actor=SYSTEM,
        action="instance.quarantine",
        object_type="instance",
        object_id=instance.instance_id,
        after={"failures": instance.failures},
        reason=cause,
    )
    return instance


@transaction.atomic
def release_instance(*, instance: Instance, actor: str, reason: str = "") -> Instance:
    """Try a quarantined, unhealthy or stopped instance again from the beginning.

    Raises ``TransitionError`` for any other.
    """
    previous = instance.state
    instance.become(State.PENDING, cause=reason or f"released by {actor}", now=timezone.now(), actor=actor)
    instance.failures = 0
    instance.forget_drain()
    store([instance], WISH_FIELDS)
    audit(
        actor=actor,
        action="instance.release",
        object_type="instance",
        object_id=instance.instance_id,
        before={"state": previous},
        after={"state": instance.state},
        reason=reason,
    )
    return instance


def reset_instance(*, instance: Instance, state: str, cause: str, actor: str) -> Instance:
    """To ``pending`` or ``stopped`` whatever it was: no agent of it can be alive any more."""
    now = timezone.now()
    for step in (State.UNHEALTHY, state):
        if instance.state != state and instance.may_become(step):
            instance.become(step, cause=cause, now=now, actor=actor)
    end_operation(instance, by=actor)
    instance.forget_drain()
    instance.failures = 0
    store([instance], WISH_FIELDS)
    present = instance.pool.instances.exclude(state=State.STOPPED).count()
    Pool.objects.filter(pk=instance.pool_id).update(target_instances=present)
    return instance


def agent_config(instance: Instance) -> AgentConfig:
    """All that the agent needs to know, from its row and its pool's."""
    pool = instance.pool
    return AgentConfig(
        instance_id=instance.instance_id,
        pool=pool.name,
        served_model=pool.served_model,
        model=pool.model_path,
        redis_url=settings.REDIS_URL,
        redis_prefix=settings.REDIS_PREFIX,
        engine=pool.engine,
        engine_args=pool.engine_args,
        kv_memory_bytes=pool.kv_memory_bytes,
        host=settings.AGENT_HOST,
        link_secret=settings.LINK_SECRET,
        otlp_endpoint=settings.OTLP_ENDPOINT,
        log_dir=str(settings.STATE_DIR / "logs"),
        **pool.migration_args,
    )


def placement(pool: Pool) -> Placement:
    return Placement(resources=dict(pool.resources), node_labels=dict(pool.node_labels), python=pool.python)


def _create(pool: Pool, names: list[str], cause: str, actor: str, now: datetime) -> list[Instance]:
    rows = Instance.objects.bulk_create(
        [Instance(instance_id=name, pool=pool, changed_at=now, cause=cause[:500]) for name in names]
    )
    for row in rows:
        row.unsaved_transitions.append(
            InstanceTransition(
                instance=row, previous="", state=row.state, cause=cause[:500], actor=actor, at=now
            )
        )
    keep_transitions(rows)
    return rows


@transaction.atomic
def _claim_start(instance: Instance, actor: str) -> bool:
    """Make it ``starting`` with the pool's present revision, unless another process has just done so."""
    previous, now = instance.state, timezone.now()
    if not instance.may_become(State.STARTING):
        instance.become(State.PENDING, cause="to be started again", now=now, actor=actor)
    instance.become(State.STARTING, cause="placing its agent", now=now, actor=actor)
    instance.pool_revision = instance.pool.revision
    claimed = Instance.objects.filter(pk=instance.pk, state=previous).update(
        state=instance.state, cause=instance.cause, changed_at=now, pool_revision=instance.pool_revision
    )
    if claimed:
        keep_transitions([instance])
    else:
        instance.unsaved_transitions.clear()
        instance.refresh_from_db()
    return bool(claimed)


def _free_names(pool_name: str, taken: set[str], count: int) -> list[str]:
    """``pool-1``, ``pool-2`` … without those in use."""
    names: list[str] = []
    number = 1
    while len(names) < count:
        name = f"{pool_name}-{number}"
        if name not in taken:
            names.append(name)
        number += 1
    return names
