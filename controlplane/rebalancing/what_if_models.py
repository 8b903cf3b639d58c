"""What would another policy have done? Traces to ask it of, and the jobs that ask."""

from __future__ import annotations

from datetime import datetime

from django.db import models

from controlplane.fleet.models import Pool


class WhatIfTrace(models.Model):
    """Arrivals and lengths, no text: uploaded, or recorded from finished requests.

    ``content`` is our own canonical CSV, written from what was read: nothing of an
    uploaded file is kept but its numbers.
    """

    class Source(models.TextChoices):
        UPLOAD = "upload"
        RECORDED = "recorded"

    name = models.CharField(max_length=100)
    source = models.CharField(max_length=10, choices=Source.choices)
    pool = models.ForeignKey(Pool, on_delete=models.SET_NULL, null=True, related_name="+")
    content = models.BinaryField()
    rows = models.PositiveIntegerField()
    duration_s = models.FloatField()
    prompt_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.name} ({self.rows} requests)"


class WhatIfJob(models.Model):
    """Two policies on one trace, simulated on the queue ``whatif``."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    OPEN_STATES = frozenset({State.QUEUED, State.RUNNING})

    trace = models.ForeignKey(WhatIfTrace, on_delete=models.CASCADE, related_name="jobs")
    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    policies = models.JSONField()
    """Two of ``{"name": …, "config": …}``, completed by the core."""
    instances = models.PositiveIntegerField()
    latency = models.CharField(max_length=100)
    seed = models.PositiveIntegerField(default=0)
    result = models.JSONField(default=dict)
    problem = models.CharField(max_length=500, blank=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["created_by", "state"], name="what_if_owner_state")]

    def __str__(self) -> str:
        return f"what-if {self.pk} on {self.trace_id} ({self.state})"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN_STATES

    def finish(self, *, result: dict[str, object], now: datetime) -> None:
        self.state, self.result, self.finished_at = self.State.DONE, result, now

    def fail(self, problem: str, *, now: datetime) -> None:
        self.state, self.problem, self.finished_at = self.State.FAILED, problem[:500], now

    def cancel(self, *, now: datetime) -> None:
        self.state, self.finished_at = self.State.CANCELLED, now
