"""Reading rules, alerts, silences, webhooks and deliveries."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from controlplane.alerts.models import Alert, AlertRule, Delivery, Silence, Webhook


def rules() -> QuerySet[AlertRule]:
    return AlertRule.objects.all()


def alerts() -> QuerySet[Alert]:
    """Newest first."""
    return Alert.objects.select_related("rule")


def silences(*, in_force_at: datetime | None = None) -> QuerySet[Silence]:
    """Newest first."""
    rows = Silence.objects.select_related("rule")
    return rows if in_force_at is None else rows.filter(starts_at__lte=in_force_at, ends_at__gt=in_force_at)


def silenced_ids(now: datetime) -> set[int]:
    """Ids of open alerts that a silence covers. Two queries."""
    active = list(silences(in_force_at=now))
    open_alerts = alerts().filter(state__in=Alert.OPEN_STATES) if active else []
    return {alert.pk for alert in open_alerts if any(each.covers(alert, now=now) for each in active)}


def webhooks() -> QuerySet[Webhook]:
    return Webhook.objects.all()


def deliveries() -> QuerySet[Delivery]:
    """Newest first."""
    return Delivery.objects.select_related("webhook")


def burn_windows() -> set[int]:
    """Lengths, in minutes, that enabled burn-rate rules look at."""
    found: set[int] = set()
    for row in rules().filter(kind="slo_burn_rate", enabled=True):
        found |= {int(row.parameters.get("short_minutes", 5)), int(row.parameters.get("long_minutes", 60))}
    return found
