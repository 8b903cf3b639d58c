"""Writing what exists: pools, instances, their wishes and their states.

People and the policy change wishes here (a row); agents follow because the
rebalancing loop and the fleet's jobs compare rows with reports and command the
difference, again and again, until they agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import InstanceChanged
from controlplane.fleet import selectors
from controlplane.fleet.agents import AgentClient, AgentError
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import GatewayProcess, Instance, Pool
from controlplane.fleet.reports import Limits, follow_report, follow_silence
from controlplane.records.services import audit
from engine_agents.config import AgentConfig
from engine_agents.messages import GatewayStatus

SYSTEM = "system:fleet"
FORGET_GATEWAYS_AFTER = timedelta(days=1)


class FleetError(ValueError):
    """The fleet cannot do what was asked; the text says why and what would be right."""


@transaction.atomic
def ensure_pool(
    *,
    name: str,
    served_model: str,
    model_path: str,
    engine: str = Pool.Engine.VLLM,
    engine_args: Mapping[str, Any] | None = None,
    kv_memory_bytes: int | None = None,
    resources: Mapping[str, float] | None = None,
    min_instances: int = 1,
    max_instances: int = 8,
    actor: str = SYSTEM,
) -> Pool:
    """The pool of this name with exactly these properties, made or changed. Raises ``ValidationError``."""
    if max_instances < min_instances:
        raise ValidationError({"max_instances": f"must be at least min_instances ({min_instances})"})
    pool = Pool.objects.filter(name=name).first() or Pool(name=name)
    before = _pool_facts(pool) if pool.pk else {}
    pool.served_model = served_model
    pool.model_path = model_path
    pool.engine = engine
    pool.engine_args = dict(engine_args or {})
    pool.resources = dict(resources or {})
    pool.min_instances = min_instances
    pool.max_instances = max_instances
    if kv_memory_bytes is not None:
        pool.kv_memory_bytes = kv_memory_bytes
    pool.full_clean()
    pool.save()
    after = _pool_facts(pool)
    if before != after:
        action = "pool.change" if before else "pool.create"
        audit(actor=actor, action=action, object_type="pool", object_id=name, before=before, after=after)
    return pool


@transaction.atomic
def add_instances(*, pool: Pool, count: int, actor: str, reason: str = "") -> list[Instance]:
    """New rows in state ``pending``; the fleet's job starts their agents.

    Raises :class:`FleetError` if the pool would grow beyond ``max_instances``.
    """
    taken = list(Instance.objects.filter(pool=pool).values_list("instance_id", "state"))
    present = sum(state != Instance.State.STOPPED for _, state in taken)
    if present + count > pool.max_instances:
        raise FleetError(
            f"pool {pool.name} has {present} instances and may have {pool.max_instances}; "
            f"{count} more are too many (raise max_instances first)"
        )
    names = _free_names(pool.name, {name for name, _ in taken}, count)
    now = timezone.now()
    rows = Instance.objects.bulk_create(
        [Instance(instance_id=name, pool=pool, changed_at=now, cause=reason or "asked for") for name in names]
    )
    for row in rows:
        audit(
            actor=actor,
            action="instance.add",
            object_type="instance",
            object_id=row.instance_id,
            reason=reason,
        )
        _announce(row, previous="", actor=actor)
    return rows


def start_instance(*, instance: Instance, agents: AgentClient, actor: str = SYSTEM) -> Instance:
    """Place the agent of an instance that does not run; readiness is learnt from its reports.

    Does nothing if another process started it meanwhile. A failed placement
    leaves the row ``unhealthy`` with the cause; it does not raise.
    """
    if not _claim_start(instance, actor):
        return instance
    try:
        agents.start(agent_config(instance), instance.pool.resources)
    except AgentError as error:
        mark_unhealthy(instance=instance, cause=f"did not start: {error}", now=timezone.now())
    return instance


def start_pending_instances(*, agents: AgentClient) -> int:
    """Start every pending instance; returns how many were tried."""
    pending = list(Instance.objects.select_related("pool").filter(state=Instance.State.PENDING))
    for instance in pending:
        start_instance(instance=instance, agents=agents)
    return len(pending)


def stop_instance(
    *, instance: Instance, agents: AgentClient, actor: str, reason: str = "", grace_s: float = 5.0
) -> Instance:
    """End the agent now, whatever runs on it (requests are recovered elsewhere). Raises :class:`AgentError`.

    For a stop without recomputation use :func:`retire_instance`.
    """
    _change(instance, Instance.State.STOPPING, cause=reason or "asked for", actor=actor)
    audit(
        actor=actor,
        action="instance.stop",
        object_type="instance",
        object_id=instance.instance_id,
        reason=reason,
    )
    return finish_stop(instance=instance, agents=agents, grace_s=grace_s)


def finish_stop(*, instance: Instance, agents: AgentClient, grace_s: float = 5.0) -> Instance:
    """End the agent of an instance that is stopping. Raises :class:`AgentError`; to be tried again then."""
    agents.stop(instance.instance_id, grace_s=grace_s)
    _change(instance, Instance.State.STOPPED, cause=instance.cause, actor=SYSTEM)
    return instance


def mark_unhealthy(*, instance: Instance, cause: str, now: datetime) -> Instance:
    """One more failed start."""
    previous = instance.state
    instance.failures += 1
    instance.become(Instance.State.UNHEALTHY, cause=cause, now=now)
    instance.save(update_fields=CHANGED_FIELDS)
    _announce(instance, previous=previous, actor=SYSTEM)
    return instance


def quarantine(*, instance: Instance, now: datetime) -> Instance:
    """Stop trying; a person has to look and start it again."""
    cause = f"failed {instance.failures} times in a row; last: {instance.cause}"
    _change(instance, Instance.State.QUARANTINED, cause=cause, actor=SYSTEM)
    return instance


@transaction.atomic
def drain_instance(*, instance: Instance, actor: str, reason: str = "") -> Instance:
    """Wish it drained: no new work, everything running migrates away. Raises ``TransitionError``."""
    previous = instance.state
    instance.want_drained(cause=reason or f"drained by {actor}", now=timezone.now())
    return _save_wish(instance, "instance.drain", previous, actor, reason)


@transaction.atomic
def undrain_instance(*, instance: Instance, actor: str, reason: str = "") -> Instance:
    """Wish it to accept work again. Raises ``TransitionError``."""
    previous = instance.state
    instance.want_accepting(cause=reason or f"undrained by {actor}", now=timezone.now())
    instance.stop_when_drained = False
    return _save_wish(instance, "instance.undrain", previous, actor, reason)


@transaction.atomic
def retire_instance(*, instance: Instance, actor: str, reason: str = "") -> Instance:
    """Drain it and stop it once nothing runs on it. Raises ``TransitionError``."""
    previous = instance.state
    instance.want_drained(cause=reason or f"retired by {actor}", now=timezone.now())
    instance.stop_when_drained = True
    return _save_wish(instance, "instance.retire", previous, actor, reason)


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
        log_dir=str(settings.STATE_DIR / "logs"),
        failpoints=settings.FAILPOINTS,
    )


@transaction.atomic
def sync_instances(
    seen: Iterable[SeenStatus], *, limits: Limits, listening_s: float, now: datetime
) -> list[Instance]:
    """Bring all rows to what agents report and store those that changed, in one statement.

    ``listening_s`` is how long the reader has been listening without a break: nobody
    is called silent for longer than that. Rows are locked
    between reading and writing, so that no wish is overwritten. Returns the changed rows.
    """
    reports = {item.status.instance_id: item for item in seen}
    changes: list[tuple[Instance, str]] = []
    unsettled = selectors.unsettled_instance_ids(reports, limits)
    if not unsettled:
        return []
    for row in Instance.objects.select_for_update().filter(instance_id__in=unsettled):
        previous, report = row.state, reports.get(row.instance_id)
        if report is None:
            changed = follow_silence(row, silent_s=listening_s, limits=limits, now=now)
        else:
            changed = follow_report(row, report, limits=limits, listening_s=listening_s, now=now)
        if changed:
            changes.append((row, previous))
    _save_reported(changes)
    return [row for row, _ in changes]


@transaction.atomic
def sync_gateways(reported: Iterable[GatewayStatus], *, now: datetime) -> None:
    """Bring the rows of gateways to what they report; the long silent are forgotten. Two statements."""
    rows = [
        GatewayProcess(
            gateway_id=status.gateway_id,
            incarnation=status.incarnation,
            pool=status.pool,
            url=status.url,
            pid=status.pid,
            first_seen_at=now,
            last_seen_at=datetime.fromtimestamp(status.reported_at_s, tz=UTC),
        )
        for status in reported
    ]
    GatewayProcess.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["gateway_id"],
        update_fields=["incarnation", "pool", "url", "pid", "last_seen_at"],
    )
    GatewayProcess.objects.filter(last_seen_at__lt=now - FORGET_GATEWAYS_AFTER).delete()


CHANGED_FIELDS = ["state", "cause", "changed_at", "failures"]
REPORTED_FIELDS = ["state", "cause", "changed_at", "incarnation", "engine_version", "host", "pid", "failures"]


def _save_reported(changes: list[tuple[Instance, str]]) -> None:
    if not changes:
        return
    Instance.objects.bulk_update([row for row, _ in changes], REPORTED_FIELDS)
    for row, previous in changes:
        if row.state != previous:
            _announce(row, previous=previous, actor=SYSTEM)


def _claim_start(instance: Instance, actor: str) -> bool:
    """Make it ``starting``, unless another process has just done so."""
    previous = instance.state
    now = timezone.now()
    if not instance.may_become(Instance.State.STARTING):
        instance.become(Instance.State.PENDING, cause="to be started again", now=now)
    instance.become(Instance.State.STARTING, cause="placing its agent", now=now)
    claimed = Instance.objects.filter(pk=instance.pk, state=previous).update(
        state=instance.state, cause=instance.cause, changed_at=now
    )
    if claimed:
        _announce(instance, previous=previous, actor=actor)
    else:
        instance.refresh_from_db()
    return bool(claimed)


def _change(instance: Instance, state: str, *, cause: str, actor: str) -> None:
    previous = instance.state
    instance.become(state, cause=cause, now=timezone.now())
    instance.save(update_fields=CHANGED_FIELDS)
    _announce(instance, previous=previous, actor=actor)


def _save_wish(instance: Instance, action: str, previous: str, actor: str, reason: str) -> Instance:
    instance.save(
        update_fields=["state", "cause", "changed_at", "accepting", "stop_when_drained", "failures"]
    )
    audit(
        actor=actor,
        action=action,
        object_type="instance",
        object_id=instance.instance_id,
        before={"state": previous},
        after={"state": instance.state, "accepting": instance.accepting},
        reason=reason,
    )
    _announce(instance, previous=previous, actor=actor)
    return instance


def _announce(instance: Instance, *, previous: str, actor: str) -> None:
    publish(
        InstanceChanged.of(
            at=instance.changed_at,
            instance_id=instance.instance_id,
            state=instance.state,
            previous=previous,
            actor=actor,
            reason=instance.cause,
        )
    )


def _pool_facts(pool: Pool) -> dict[str, Any]:
    return {
        "served_model": pool.served_model,
        "model_path": pool.model_path,
        "engine": pool.engine,
        "engine_args": pool.engine_args,
        "kv_memory_bytes": pool.kv_memory_bytes,
        "resources": pool.resources,
        "min_instances": pool.min_instances,
        "max_instances": pool.max_instances,
    }


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
