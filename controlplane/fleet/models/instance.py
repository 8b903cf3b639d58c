"""An instance and its life: states, the table of transitions, and every transition with cause and time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import models

from controlplane.fleet.models.pool import Pool, slug

SYSTEM = "system:fleet"
STABLE_AFTER = timedelta(seconds=120)
"""An engine that was ready for so long has started well: earlier failures no longer count."""


class TransitionError(ValueError):
    """An instance cannot go from its state to the one asked for."""


class Instance(models.Model):
    """One engine of a pool; the agent of the same ``instance_id`` runs it."""

    class State(models.TextChoices):
        PENDING = "pending"
        STARTING = "starting"
        WARMING = "warming"
        READY = "ready"
        DRAINING = "draining"
        DRAINED = "drained"
        STOPPING = "stopping"
        STOPPED = "stopped"
        UNHEALTHY = "unhealthy"
        QUARANTINED = "quarantined"

    TRANSITIONS: Mapping[str, frozenset[str]] = {
        State.PENDING: frozenset({State.STARTING, State.WARMING, State.READY, State.STOPPED}),
        State.STARTING: frozenset(
            {State.PENDING, State.WARMING, State.READY, State.UNHEALTHY, State.STOPPING}
        ),
        State.WARMING: frozenset({State.READY, State.UNHEALTHY, State.STOPPING}),
        State.READY: frozenset({State.DRAINING, State.UNHEALTHY, State.STOPPING}),
        State.DRAINING: frozenset({State.DRAINED, State.READY, State.UNHEALTHY, State.STOPPING}),
        State.DRAINED: frozenset({State.DRAINING, State.READY, State.UNHEALTHY, State.STOPPING}),
        State.STOPPING: frozenset({State.STOPPED, State.UNHEALTHY}),
        State.STOPPED: frozenset({State.PENDING}),
        State.UNHEALTHY: frozenset(
            {
                State.STARTING,
                State.WARMING,
                State.READY,
                State.DRAINING,
                State.DRAINED,
                State.STOPPING,
                State.STOPPED,
                State.PENDING,
                State.QUARANTINED,
            }
        ),
        State.QUARANTINED: frozenset({State.PENDING, State.STOPPING, State.STOPPED}),
    }
    LIVE_STATES = frozenset(
        {State.STARTING, State.WARMING, State.READY, State.DRAINING, State.DRAINED, State.UNHEALTHY}
    )
    RISING_STATES = frozenset({State.PENDING, State.STARTING, State.WARMING})
    """On their way up."""

    class WhenDrained(models.TextChoices):
        STAY = "stay"
        STOP = "stop"
        """It is to leave the fleet."""
        RESTART = "restart"
        """With its pool's engine arguments of that moment."""
        UNDRAIN = "undrain"
        """It was only to be emptied once."""

    class OnDeadline(models.TextChoices):
        WAIT = "wait"
        """For what still runs, however long."""
        RECOMPUTE = "recompute"
        """End the engine; other instances make its requests' next tokens from the tokens so far."""

    instance_id = models.CharField(max_length=63, unique=True, validators=[slug])
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="instances")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    cause = models.CharField(max_length=500, blank=True)
    changed_at = models.DateTimeField()
    accepting = models.BooleanField(default=True)
    """What is wanted: False drains. What the agent says of itself is in its status."""
    when_drained = models.CharField(
        max_length=8, choices=WhenDrained.choices, default=WhenDrained.STAY, blank=True
    )
    drain_deadline_at = models.DateTimeField(null=True, blank=True)
    on_deadline = models.CharField(max_length=9, choices=OnDeadline.choices, default=OnDeadline.WAIT)
    operation_id = models.CharField(max_length=40, blank=True)
    """The long action that is under way for this instance."""
    pool_revision = models.PositiveIntegerField(default=0)
    """Revision of the pool that its agent was started with; 0: never started."""
    incarnation = models.CharField(max_length=64, blank=True)
    """Of the agent last heard of."""
    ended_incarnation = models.CharField(max_length=64, blank=True)
    """Of the agent that was ended last: what it said before is no news of its successor."""
    engine_version = models.CharField(max_length=60, blank=True)
    host = models.CharField(max_length=200, blank=True)
    pid = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    """Failures in a row: starts that failed, and ends soon after one. See :data:`STABLE_AFTER`."""
    failure_log = models.TextField(blank=True)
    """Last lines of the agent's log when it last failed."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["instance_id"]
        indexes = [models.Index(fields=["pool", "state"], name="instance_pool_state")]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.unsaved_transitions: list[InstanceTransition] = []
        """Made since the row was read; stored together with it by the services."""

    def __str__(self) -> str:
        return f"{self.instance_id} ({self.state})"

    @property
    def stop_when_drained(self) -> bool:
        """Whether it is to leave the fleet."""
        return self.when_drained == self.WhenDrained.STOP

    def may_become(self, state: str) -> bool:
        return state in self.TRANSITIONS[self.state]

    def become(self, state: str, *, cause: str, now: datetime, actor: str = SYSTEM) -> None:
        """Change state (not saved yet). Raises :class:`TransitionError` where the table forbids it."""
        if not self.may_become(state):
            allowed = ", ".join(sorted(self.TRANSITIONS[self.state]))
            raise TransitionError(
                f"instance {self.instance_id} is {self.state} and cannot become {state}; "
                f"it can become: {allowed}"
            )
        self.unsaved_transitions.append(
            InstanceTransition(
                instance=self, previous=self.state, state=state, cause=cause[:500], actor=actor, at=now
            )
        )
        if state == self.State.UNHEALTHY:
            self.failures = 1 if self.was_stable(now) else self.failures + 1
        self.state = state
        self.cause = cause[:500]
        self.changed_at = now

    def was_stable(self, now: datetime) -> bool:
        """Whether it has served for long enough to forget how it started."""
        serving = {self.State.READY, self.State.DRAINING, self.State.DRAINED}
        return self.state in serving and now - self.changed_at > STABLE_AFTER

    def want_drained(self, *, cause: str, now: datetime, actor: str = SYSTEM) -> None:
        """No new work, everything moves away. Raises :class:`TransitionError` if it does not run."""
        self._require_running("drained")
        self.accepting = False
        if self.state == self.State.READY:
            self.become(self.State.DRAINING, cause=cause, now=now, actor=actor)

    def want_accepting(self, *, cause: str, now: datetime, actor: str = SYSTEM) -> None:
        """Take work again. Raises :class:`TransitionError` if it does not run."""
        self._require_running("undrained")
        self.forget_drain()
        if self.state in {self.State.DRAINING, self.State.DRAINED}:
            self.become(self.State.READY, cause=cause, now=now, actor=actor)

    def forget_drain(self) -> None:
        """Nothing of an earlier drain is wished any more."""
        self.accepting = True
        self.when_drained = self.WhenDrained.STAY
        self.drain_deadline_at = None
        self.on_deadline = self.OnDeadline.WAIT
        self.operation_id = ""

    def _require_running(self, verb: str) -> None:
        if self.state not in self.LIVE_STATES:
            raise TransitionError(
                f"instance {self.instance_id} is {self.state}; only a running instance can be {verb}"
            )


class InstanceTransition(models.Model):
    """One change of an instance's state; never changed once made."""

    instance = models.ForeignKey(Instance, on_delete=models.CASCADE, related_name="transitions")
    at = models.DateTimeField()
    previous = models.CharField(max_length=12)
    """Empty: it was made."""
    state = models.CharField(max_length=12)
    cause = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=150)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["instance", "at"], name="transition_instance_at")]

    def __str__(self) -> str:
        return f"{self.previous or 'new'} → {self.state}: {self.cause}"
