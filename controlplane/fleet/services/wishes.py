"""What people and the policy want of a running instance: drained, restarted, emptied, gone."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from controlplane.fleet.models import Instance, Pool
from controlplane.fleet.services.rows import FleetError, begin, end_operation, store_wish

State = Instance.State
WhenDrained = Instance.WhenDrained
OnDeadline = Instance.OnDeadline
LONGEST_DEADLINE_S = 7 * 86_400.0


@transaction.atomic
def drain_instance(
    *,
    instance: Instance,
    actor: str,
    reason: str = "",
    deadline_s: float | None = None,
    on_deadline: str = OnDeadline.WAIT,
) -> Instance:
    """Wish it drained: no new work, everything running migrates away; then it stays, empty.

    After ``deadline_s`` (``None``: never) what still runs is waited for (``wait``) or continued elsewhere
    from its tokens (``recompute``, which ends the engine). Raises ``TransitionError``, :class:`FleetError`.
    """
    return _drain(instance, "drain", WhenDrained.STAY, actor, reason, deadline_s, on_deadline)


@transaction.atomic
def undrain_instance(*, instance: Instance, actor: str, reason: str = "") -> Instance:
    """Wish it to accept work again, at any time. Raises ``TransitionError``."""
    previous = instance.state
    was_leaving = instance.stop_when_drained
    emptied = instance.when_drained == WhenDrained.UNDRAIN and previous == State.DRAINED
    end_operation(instance, by=actor, done=emptied)
    instance.want_accepting(cause=reason or f"undrained by {actor}", now=timezone.now(), actor=actor)
    if was_leaving:
        _set_target(instance.pool, _staying(instance.pool) + 1)
    return store_wish(instance, "instance.undrain", previous, actor, reason)


@transaction.atomic
def retire_instance(
    *,
    instance: Instance,
    actor: str,
    reason: str = "",
    deadline_s: float | None = None,
    on_deadline: str = OnDeadline.WAIT,
) -> Instance:
    """Drain it and stop it once nothing runs on it; the pool is to be one smaller.

    One that does not serve (pending, unhealthy, quarantined …) is stopped at once.
    Raises ``TransitionError``.
    """
    if instance.state in {State.READY, State.DRAINING, State.DRAINED}:
        row = _drain(instance, "retire", WhenDrained.STOP, actor, reason, deadline_s, on_deadline)
    else:
        stop_instance(instance=instance, actor=actor, reason=reason or f"retired by {actor}")
        row = instance
    _set_target(instance.pool, _staying(instance.pool))
    return row


@transaction.atomic
def remove_instance(
    *,
    instance: Instance,
    actor: str,
    reason: str = "",
    deadline_s: float | None = None,
    on_deadline: str = OnDeadline.WAIT,
) -> Instance:
    """As :func:`retire_instance`, but never below ``min_instances``. Raises :class:`FleetError`."""
    pool = instance.pool
    if _staying(pool) - (not instance.stop_when_drained) < pool.min_instances:
        raise FleetError(
            f"pool {pool.name} must keep {pool.min_instances} instances (min_instances): "
            "lower it first, or add another instance"
        )
    return retire_instance(
        instance=instance, actor=actor, reason=reason, deadline_s=deadline_s, on_deadline=on_deadline
    )


@transaction.atomic
def restart_instance(
    *,
    instance: Instance,
    actor: str,
    reason: str = "",
    deadline_s: float | None = None,
    on_deadline: str = OnDeadline.WAIT,
) -> Instance:
    """Drain it, end its agent, start it again with the pool's present properties.

    One that does not serve is started again at once. Raises ``TransitionError``, :class:`FleetError`.
    """
    if instance.state in {State.READY, State.DRAINING, State.DRAINED}:
        return _drain(instance, "restart", WhenDrained.RESTART, actor, reason, deadline_s, on_deadline)
    previous, now = instance.state, timezone.now()
    begin(instance, "instance.restart", actor=actor, reason=reason, note="to be started again")
    instance.failures = 0
    if instance.state in {State.STARTING, State.WARMING, State.UNHEALTHY}:
        instance.become(State.STOPPING, cause=reason or f"restarted by {actor}", now=now, actor=actor)
        instance.when_drained = WhenDrained.RESTART
    else:
        instance.become(State.PENDING, cause=reason or f"restarted by {actor}", now=now, actor=actor)
    return store_wish(instance, "instance.restart", previous, actor, reason)


@transaction.atomic
def migrate_all(*, instance: Instance, actor: str, reason: str = "") -> Instance:
    """Empty it once: everything there moves away, then it takes work again. Raises ``TransitionError``."""
    if instance.state != State.READY:
        raise FleetError(f"instance {instance.instance_id} is {instance.state}, not ready")
    return _drain(instance, "migrate_all", WhenDrained.UNDRAIN, actor, reason, None, OnDeadline.WAIT)


@transaction.atomic
def stop_instance(*, instance: Instance, actor: str, reason: str = "") -> Instance:
    """End its agent now, whatever runs on it (others go on from the tokens).

    It stays in the fleet, stopped. For a stop without recomputation use :func:`retire_instance`.
    Raises ``TransitionError``.
    """
    previous = instance.state
    instance.forget_drain()
    begin(instance, "instance.stop", actor=actor, reason=reason, note="its agent is being ended")
    state = State.STOPPED if previous == State.PENDING else State.STOPPING
    instance.become(state, cause=reason or f"stopped by {actor}", now=timezone.now(), actor=actor)
    return store_wish(instance, "instance.stop", previous, actor, reason)


def _drain(
    instance: Instance,
    verb: str,
    then: str,
    actor: str,
    reason: str,
    deadline_s: float | None,
    on_deadline: str,
) -> Instance:
    _check_deadline(deadline_s, on_deadline)
    previous, now = instance.state, timezone.now()
    instance.want_drained(cause=reason or f"{verb} asked for by {actor}", now=now, actor=actor)
    begin(instance, f"instance.{verb}", actor=actor, reason=reason, note="no new work; requests move away")
    instance.when_drained = then
    instance.drain_deadline_at = now + timedelta(seconds=deadline_s) if deadline_s is not None else None
    instance.on_deadline = on_deadline
    return store_wish(instance, f"instance.{verb}", previous, actor, reason)


def _check_deadline(deadline_s: float | None, on_deadline: str) -> None:
    if on_deadline not in OnDeadline.values:
        raise FleetError(f"on_deadline is {on_deadline!r}: one of {', '.join(OnDeadline.values)}")
    if deadline_s is not None and not 0 <= deadline_s <= LONGEST_DEADLINE_S:
        raise FleetError(f"deadline_s is {deadline_s:g}: from 0 to {LONGEST_DEADLINE_S:g}")


def _staying(pool: Pool) -> int:
    """Instances that are there and are not to leave."""
    gone = {State.STOPPED, State.STOPPING}
    rows = pool.instances.exclude(state__in=gone)
    return rows.exclude(when_drained=WhenDrained.STOP).count()


def _set_target(pool: Pool, target: int) -> None:
    Pool.objects.filter(pk=pool.pk).update(target_instances=target)
    pool.target_instances = target
