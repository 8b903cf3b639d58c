"""The rebalancing loop's memory: policy versions, rounds that decided something, migrations of requests."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from controlplane.fleet.models import Pool
from controlplane.rebalancing.serialisation import FastEncoder
from controlplane.rebalancing.what_if_models import WhatIfJob, WhatIfTrace
from controlplane.scheduling.config import ConfigError, SchedulingConfig
from engine_agents.messages import MigrationOutcome

__all__ = [
    "LoopState",
    "PolicyVersion",
    "RebalanceRound",
    "RequestMigration",
    "WhatIfJob",
    "WhatIfTrace",
]


class PolicyVersion(models.Model):
    """One version of a pool's scheduling configuration; never changed once made, at most one active."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="policy_versions")
    version = models.PositiveIntegerField()
    config = models.JSONField(default=dict, blank=True)
    active = models.BooleanField(default=False)
    comment = models.CharField(max_length=500, blank=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    activated_at = models.DateTimeField(null=True, blank=True)
    activated_by = models.CharField(max_length=150, blank=True)
    previous = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    """Active before this one was activated: where a rollback leads."""
    active_until = models.DateTimeField(null=True, blank=True)
    """Activated for a time only: then what was active before is active again."""

    class Meta:
        ordering = ["pool", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["pool", "version"], name="policy_version_unique"),
            models.UniqueConstraint(
                fields=["pool"], condition=models.Q(active=True), name="one_active_policy_per_pool"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pool} policy {self.version}"

    def clean(self) -> None:
        """The core judges the configuration; its sentence names field and range."""
        try:
            SchedulingConfig.from_dict(self.config)
        except ConfigError as error:
            raise ValidationError({"config": str(error)}) from error

    def scheduling_config(self) -> SchedulingConfig:
        return SchedulingConfig.from_dict(self.config)


class LoopState(models.Model):
    """The one row that outlives Redis: the highest epoch given out and how far outcomes were read."""

    SINGLETON_ID = 1

    epoch = models.PositiveBigIntegerField(default=0)
    leader = models.CharField(max_length=200, blank=True)
    taken_at = models.DateTimeField(null=True)
    outcomes_cursor = models.CharField(max_length=40, default="0-0")
    """Id of the last entry of the stream ``migrations`` that is in the rows."""

    class Meta:
        verbose_name_plural = "loop state"

    def __str__(self) -> str:
        return f"epoch {self.epoch} held by {self.leader or 'nobody'}"

    def raise_epoch(self, *, reported: int, leader: str, now: datetime) -> int:
        """One more than the highest known to this row or to any agent."""
        self.epoch = 1 + max(self.epoch, reported)
        self.leader = leader
        self.taken_at = now
        return self.epoch


class RebalanceRound(models.Model):
    """A tick that decided something, with all that is needed to decide it again."""

    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="rounds")
    taken_at = models.DateTimeField()
    epoch = models.PositiveBigIntegerField()
    tick = models.PositiveBigIntegerField()
    policy = models.ForeignKey(PolicyVersion, on_delete=models.PROTECT, null=True, related_name="rounds")
    snapshot = models.JSONField(encoder=FastEncoder)
    """A ``ClusterSnapshot`` when made, plain data when read."""
    state_before = models.JSONField(default=dict)
    config = models.JSONField(default=dict)
    decisions = models.JSONField()
    answers = models.JSONField(default=list)
    """Per command: what the source agent said."""
    duration_ms = models.FloatField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["pool", "taken_at"], name="round_pool_taken")]
        constraints = [models.UniqueConstraint(fields=["pool", "epoch", "tick"], name="round_once")]

    def __str__(self) -> str:
        return f"round {self.epoch}.{self.tick} of {self.pool}"


class RequestMigration(models.Model):
    """The move of one request from one instance to another, wished or done."""

    class State(models.TextChoices):
        REQUESTED = "requested"
        COMMANDED = "commanded"
        RESERVING = "reserving"
        COPYING = "copying"
        FREEZING = "freezing"
        COMMITTED = "committed"
        IN_DOUBT = "in_doubt"
        DONE = "done"
        ABORTED = "aborted"
        REFUSED = "refused"

    STOPPED_STATES = frozenset({State.ABORTED, State.REFUSED})
    FINAL_STATES = frozenset({State.DONE, *STOPPED_STATES})

    migration_id = models.CharField(max_length=80, unique=True)
    request_id = models.CharField(max_length=160)
    """A client's own id may be 100 characters; the front half adds to it."""
    source = models.CharField(max_length=63)
    destination = models.CharField(max_length=63)
    rule = models.CharField(max_length=40)
    why = models.CharField(max_length=500, blank=True)
    slo_class = models.CharField(max_length=40, blank=True)
    tenant = models.CharField(max_length=63, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.COMMANDED)
    reason = models.CharField(max_length=500, blank=True)
    stages = models.JSONField(default=list)
    downtime_ms = models.FloatField(null=True)
    tokens_at_start = models.PositiveIntegerField(default=0)
    tokens_moved = models.PositiveIntegerField(default=0)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    round = models.ForeignKey(RebalanceRound, on_delete=models.SET_NULL, null=True, related_name="migrations")
    requested_by = models.CharField(max_length=150, default="system:loop")

    class Meta:
        ordering = ["-started_at", "-id"]
        indexes = [
            models.Index(fields=["state"], name="migration_state"),
            models.Index(fields=["started_at"], name="migration_started"),
            models.Index(fields=["request_id"], name="migration_request"),
        ]

    def __str__(self) -> str:
        return f"{self.migration_id}: {self.request_id} {self.source} → {self.destination} ({self.state})"

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL_STATES

    def follow(self, outcome: MigrationOutcome, *, stages: list[dict[str, Any]], at: datetime) -> bool:
        """Take over what the source reports; a final state stays. Returns whether anything changed."""
        if self.is_final:
            return False
        self.request_id = outcome.request_id or self.request_id
        self.state = outcome.state
        self.reason = outcome.reason[:500]
        self.why = outcome.why[:500] or self.why
        self.slo_class = outcome.slo_class or self.slo_class
        self.tenant = outcome.tenant or self.tenant
        self.stages = stages
        self.tokens_at_start = outcome.tokens_at_start or self.tokens_at_start
        self.tokens_moved = outcome.tokens_moved
        if outcome.state in self.FINAL_STATES:
            self.finished_at = at
            self.downtime_ms = outcome.downtime_ms if outcome.state == self.State.DONE else None
        return True

    def refuse(self, reason: str, *, now: datetime) -> None:
        """The source did not take the command."""
        self._end(self.State.REFUSED, reason, now)

    def lose(self, reason: str, *, now: datetime) -> None:
        """Its source will never report its end."""
        self._end(self.State.ABORTED, reason, now)

    def _end(self, state: str, reason: str, now: datetime) -> None:
        self.state = state
        self.reason = reason[:500]
        self.finished_at = now
