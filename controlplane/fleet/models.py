"""What exists: pools (a served model each), the instances in them, and gateway processes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.core.validators import RegexValidator
from django.db import models

slug = RegexValidator(
    r"^[a-z0-9][a-z0-9-]{0,62}$", "use lower-case letters, digits and hyphens, at most 63 characters"
)


class Pool(models.Model):
    """A served model: every instance of a pool can take every request of it."""

    class Engine(models.TextChoices):
        VLLM = "vllm", "vLLM"
        PACED = "paced", "simulated, on the wall clock"

    name = models.CharField(max_length=63, unique=True, validators=[slug])
    served_model = models.CharField(max_length=200)
    """The name that clients ask for."""
    model_path = models.CharField(max_length=500)
    """Folder or hub name; for the simulated engine the name of a coefficient file."""
    engine = models.CharField(max_length=10, choices=Engine.choices, default=Engine.VLLM)
    engine_args = models.JSONField(default=dict, blank=True)
    kv_memory_bytes = models.BigIntegerField(default=64 * 2**20)
    resources = models.JSONField(default=dict, blank=True)
    """What Ray must set aside per instance, e.g. ``{"num_cpus": 1, "num_gpus": 0}``."""
    min_instances = models.PositiveIntegerField(default=1)
    max_instances = models.PositiveIntegerField(default=8)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


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
        State.STARTING: frozenset({State.WARMING, State.READY, State.UNHEALTHY, State.STOPPING}),
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

    instance_id = models.CharField(max_length=63, unique=True, validators=[slug])
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="instances")
    state = models.CharField(max_length=12, choices=State.choices, default=State.PENDING)
    cause = models.CharField(max_length=500, blank=True)
    changed_at = models.DateTimeField()
    accepting = models.BooleanField(default=True)
    """What is wanted: False drains. What the agent says of itself is in its status."""
    stop_when_drained = models.BooleanField(default=False)
    """Set when it is to leave the fleet: stopped as soon as nothing runs on it."""
    incarnation = models.CharField(max_length=64, blank=True)
    """Of the agent last heard of."""
    engine_version = models.CharField(max_length=60, blank=True)
    host = models.CharField(max_length=200, blank=True)
    pid = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    """Starts that failed in a row; a ready agent sets it back."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["instance_id"]
        indexes = [models.Index(fields=["pool", "state"], name="instance_pool_state")]

    def __str__(self) -> str:
        return f"{self.instance_id} ({self.state})"

    def may_become(self, state: str) -> bool:
        return state in self.TRANSITIONS[self.state]

    def become(self, state: str, *, cause: str, now: datetime) -> None:
        """Change state (not saved yet). Raises :class:`TransitionError` where the table forbids it."""
        if not self.may_become(state):
            allowed = ", ".join(sorted(self.TRANSITIONS[self.state]))
            raise TransitionError(
                f"instance {self.instance_id} is {self.state} and cannot become {state}; "
                f"it can become: {allowed}"
            )
        self.state = state
        self.cause = cause[:500]
        self.changed_at = now
        if state == self.State.READY:
            self.failures = 0

    def want_drained(self, *, cause: str, now: datetime) -> None:
        """No new work, everything moves away. Raises :class:`TransitionError` if it does not run."""
        self._require_running("drained")
        self.accepting = False
        if self.state == self.State.READY:
            self.become(self.State.DRAINING, cause=cause, now=now)

    def want_accepting(self, *, cause: str, now: datetime) -> None:
        """Take work again. Raises :class:`TransitionError` if it does not run."""
        self._require_running("undrained")
        self.accepting = True
        if self.state in {self.State.DRAINING, self.State.DRAINED}:
            self.become(self.State.READY, cause=cause, now=now)

    def _require_running(self, verb: str) -> None:
        if self.state not in self.LIVE_STATES:
            raise TransitionError(
                f"instance {self.instance_id} is {self.state}; only a running instance can be {verb}"
            )


class GatewayProcess(models.Model):
    """One gateway as last heard of; its live figures are in Redis."""

    gateway_id = models.CharField(max_length=80, unique=True)
    incarnation = models.CharField(max_length=64)
    pool = models.CharField(max_length=63)
    url = models.CharField(max_length=200)
    pid = models.PositiveIntegerField(default=0)
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        ordering = ["gateway_id"]
        verbose_name_plural = "gateway processes"

    def __str__(self) -> str:
        return f"{self.gateway_id} at {self.url}"
