"""What happened. Rows here outlive what they speak of: they hold ids and names, not foreign keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db import models


class RequestRecord(models.Model):
    """One finished request; written once, in batches, by its gateway."""

    request_id = models.CharField(max_length=160, unique=True)
    """The front half's: a client's own id of up to 100 characters, with a prefix and a number."""
    tenant_id = models.BigIntegerField(null=True)
    key_id = models.BigIntegerField(null=True)
    slo_class_asked = models.CharField(max_length=40, blank=True)
    slo_class_served = models.CharField(max_length=40)
    class_rule = models.CharField(max_length=40, blank=True)
    """Why that class: ``default``, ``asked``, ``lowered``, ``boost``, ``reclassified``."""
    model = models.CharField(max_length=200)
    arrived_at = models.DateTimeField()
    first_token_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()
    prompt_tokens = models.PositiveIntegerField()
    cached_tokens = models.PositiveIntegerField(default=0)
    """Of the prompt's, those whose KV was there already."""
    output_tokens = models.PositiveIntegerField()
    instance_ids = models.JSONField(default=list)
    dispatches = models.PositiveSmallIntegerField(default=1)
    moves = models.PositiveSmallIntegerField(default=0)
    recoveries = models.PositiveSmallIntegerField(default=0)
    outcome = models.CharField(max_length=200)
    queued_ms = models.FloatField(default=0.0)
    ttft_ms = models.FloatField(null=True)
    tpot_ms = models.FloatField(null=True)
    end_to_end_ms = models.FloatField()

    class Meta:
        ordering = ["-finished_at", "-id"]
        indexes = [
            models.Index(fields=["finished_at"], name="request_finished"),
            models.Index(fields=["tenant_id", "finished_at"], name="request_tenant_finished"),
            models.Index(fields=["slo_class_served", "finished_at"], name="request_class_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} ({self.outcome})"

    @property
    def failed(self) -> bool:
        return self.outcome.startswith("error:")


class UsageDay(models.Model):
    """What one key used of one class and model on one day (UTC); the sum of its finished requests."""

    day = models.DateField()
    tenant_id = models.BigIntegerField(null=True)
    key_id = models.BigIntegerField(null=True)
    slo_class = models.CharField(max_length=40)
    model = models.CharField(max_length=200)
    subject = models.CharField(max_length=64)
    """Digest of all of the above: what makes a row unique, empty parts included."""
    requests = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    queue_seconds = models.FloatField(default=0.0)
    """Sum over the requests of what each waited for an instance."""

    class Meta:
        ordering = ["-day", "tenant_id", "key_id", "slo_class", "model"]
        constraints = [models.UniqueConstraint(name="one_usage_row_each", fields=["subject"])]
        indexes = [models.Index(fields=["tenant_id", "day"], name="usage_tenant_day")]

    def __str__(self) -> str:
        return f"{self.day} tenant {self.tenant_id} key {self.key_id} {self.slo_class}"


class AppendOnlyError(TypeError):
    """An audit entry was about to be changed or deleted."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Bulk changes are refused as single ones are."""

    def update(self, **kwargs: Any) -> int:
        raise AppendOnlyError("audit entries are append-only: they cannot be changed")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnlyError("audit entries are append-only: they cannot be deleted")


class AuditEntry(models.Model):
    """Who did what to which object, when and why. ``actor`` is ``system:…`` for automatic acts."""

    at = models.DateTimeField()
    actor = models.CharField(max_length=150)
    action = models.CharField(max_length=80)
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=160)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    reason = models.CharField(max_length=500, blank=True)
    request_id = models.CharField(max_length=80, blank=True)
    address = models.GenericIPAddressField(null=True)

    objects: ClassVar[models.Manager[AuditEntry]] = models.Manager.from_queryset(AuditQuerySet)()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["object_type", "object_id"], name="audit_object"),
            models.Index(fields=["at"], name="audit_at"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} {self.action} {self.object_type} {self.object_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("audit entries are append-only: they cannot be changed")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnlyError("audit entries are append-only: they cannot be deleted")


class Operation(models.Model):
    """Something that takes a while, asked for by a person or the system, to be watched until it ends."""

    class State(models.TextChoices):
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    operation_id = models.CharField(max_length=40, unique=True)
    kind = models.CharField(max_length=60)
    """As the audit action that began it, e.g. ``instance.drain``."""
    object_type = models.CharField(max_length=60)
    object_id = models.CharField(max_length=160)
    state = models.CharField(max_length=10, choices=State.choices, default=State.RUNNING)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    """0: how much there is to do is not known."""
    note = models.CharField(max_length=500, blank=True)
    """How it stands, in words."""
    problem = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=150)
    reason = models.CharField(max_length=500, blank=True)
    request_id = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["state"], name="operation_state"),
            models.Index(fields=["object_type", "object_id"], name="operation_object"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.object_id} ({self.state})"

    @property
    def is_final(self) -> bool:
        return self.state != self.State.RUNNING

    def finish(self, state: str, *, problem: str, now: datetime) -> None:
        """The first end counts; a second one changes nothing."""
        if not self.is_final:
            self.state, self.problem = state, problem[:500]
            self.updated_at = self.finished_at = now


class PoolHistory(models.Model):
    """How one pool fared over one bucket of time; see :mod:`controlplane.records.history`."""

    pool = models.CharField(max_length=63)
    resolution_s = models.PositiveIntegerField()
    at = models.DateTimeField()
    instances = models.FloatField()
    running = models.FloatField()
    waiting = models.FloatField()
    queued = models.FloatField()
    used_share = models.FloatField(null=True)
    freeness_tokens = models.FloatField(null=True)
    tokens_per_s = models.FloatField()
    preemptions = models.PositiveIntegerField(default=0)
    migrations_done = models.PositiveIntegerField(default=0)
    migrations_failed = models.PositiveIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["pool", "resolution_s", "at"], name="pool_history_once")
        ]
        verbose_name_plural = "pool history"

    def __str__(self) -> str:
        return f"{self.pool} at {self.at:%Y-%m-%d %H:%M:%S}"


class LatencyHistory(models.Model):
    """How the requests of one SLO class fared that finished in one bucket of time."""

    slo_class = models.CharField(max_length=40)
    resolution_s = models.PositiveIntegerField()
    at = models.DateTimeField()
    requests = models.PositiveIntegerField()
    failed = models.PositiveIntegerField()
    prompt_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    ttft_p50_ms = models.FloatField(null=True)
    ttft_p99_ms = models.FloatField(null=True)
    tpot_p50_ms = models.FloatField(null=True)
    tpot_p99_ms = models.FloatField(null=True)
    end_to_end_p99_ms = models.FloatField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["slo_class", "resolution_s", "at"], name="latency_history_once")
        ]
        verbose_name_plural = "latency history"

    def __str__(self) -> str:
        return f"{self.slo_class} at {self.at:%Y-%m-%d %H:%M:%S}"
