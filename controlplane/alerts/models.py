"""Rules as data, the alerts that they raised, silences, and webhooks with their deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from controlplane.alerts.rules import KINDS, check_parameters

KIND_CHOICES = [(name, name) for name in KINDS]


class AlertRule(models.Model):
    """When somebody is to be told: a condition of some kind that held for a while."""

    class Severity(models.TextChoices):
        INFO = "info"
        WARNING = "warning"
        CRITICAL = "critical"

    name = models.CharField(max_length=80, unique=True)
    kind = models.CharField(max_length=40, choices=KIND_CHOICES)
    parameters = models.JSONField(default=dict, blank=True)
    """As the kind declares them; what is left out is the kind's default."""
    severity = models.CharField(max_length=8, choices=Severity.choices, default=Severity.WARNING)
    for_s = models.PositiveIntegerField(default=0)
    """How long the condition must hold before anybody is told."""
    enabled = models.BooleanField(default=True)
    description = models.CharField(max_length=500, blank=True)
    runbook_url = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        problems = check_parameters(self.kind, self.parameters)
        if problems:
            raise ValidationError({"parameters": problems})
        if self.runbook_url and not self.runbook_url.startswith(("https://", "http://", "/")):
            raise ValidationError({"runbook_url": "must be a link: https://… or a path of this console"})


class Alert(models.Model):
    """One condition of one subject, from its first sight to its end."""

    class State(models.TextChoices):
        PENDING = "pending"
        """Holds, but not yet for as long as its rule says."""
        FIRING = "firing"
        RESOLVED = "resolved"

    OPEN_STATES = frozenset({State.PENDING, State.FIRING})

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts")
    subject = models.CharField(max_length=200, blank=True)
    """Whom it is about: an instance, a class, a tenant's limit; empty: the fleet."""
    severity = models.CharField(max_length=8, choices=AlertRule.Severity.choices)
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    value = models.FloatField(null=True)
    summary = models.CharField(max_length=500)
    started_at = models.DateTimeField()
    fired_at = models.DateTimeField(null=True)
    resolved_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField()
    acknowledged_by = models.CharField(max_length=150, blank=True)
    acknowledged_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "subject"],
                condition=models.Q(state__in=["pending", "firing"]),
                name="one_open_alert_per_subject",
            )
        ]
        indexes = [models.Index(fields=["state", "started_at"], name="alert_state")]

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject or 'fleet'} ({self.state})"

    def follow(self, *, value: float | None, summary: str, now: datetime) -> bool:
        """The condition still holds; returns whether it fires from now on."""
        self.value, self.summary, self.seen_at = value, summary[:500], now
        if self.state == self.State.PENDING and (now - self.started_at).total_seconds() >= self.rule.for_s:
            self.state, self.fired_at = self.State.FIRING, now
            return True
        return False

    def resolve(self, *, now: datetime) -> None:
        self.state, self.resolved_at = self.State.RESOLVED, now

    def acknowledge(self, *, by: str, now: datetime) -> None:
        """Somebody cares; the first one stays named."""
        if self.acknowledged_at is None:
            self.acknowledged_by, self.acknowledged_at = by, now


class Silence(models.Model):
    """Nobody is told of matching alerts for a while; they are shown all the same."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, null=True, related_name="silences")
    """Empty: of every rule."""
    subject = models.CharField(max_length=200, blank=True)
    """Empty: every subject."""
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    created_by = models.CharField(max_length=150)
    reason = models.CharField(max_length=500)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.rule or 'all rules'} until {self.ends_at:%Y-%m-%d %H:%M}"

    def covers(self, alert: Alert, *, now: datetime) -> bool:
        in_force = self.starts_at <= now < self.ends_at
        return in_force and self.rule_id in (None, alert.rule_id) and self.subject in ("", alert.subject)


def every_event() -> list[str]:
    return ["alert.firing", "alert.resolved"]


class Webhook(models.Model):
    """Where to tell of events. Its signing secret is derived, not stored: see ``signing``."""

    EVENTS = ("alert.firing", "alert.resolved")

    name = models.CharField(max_length=80, unique=True)
    url = models.CharField(max_length=500)
    events = models.JSONField(default=every_event)
    least_severity = models.CharField(
        max_length=8, choices=AlertRule.Severity.choices, default=AlertRule.Severity.INFO
    )
    salt = models.CharField(max_length=64)
    enabled = models.BooleanField(default=True)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        unknown: list[Any] = [each for each in self.events if each not in self.EVENTS]
        if unknown:
            raise ValidationError({"events": f"there are: {', '.join(self.EVENTS)}"})


class Delivery(models.Model):
    """One event on its way to one webhook: every attempt leaves its trace here."""

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"
        """Given up after the last attempt, or never allowed."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)
    payload = models.JSONField()
    state = models.CharField(max_length=9, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    due_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True)
    """Of the last answer; empty: there was none."""
    problem = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "due_at"], name="delivery_due")]

    def __str__(self) -> str:
        return f"{self.event} to {self.webhook} ({self.state})"
