"""Writing rules, alerts, silences and webhooks; judging the rules."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from controlplane.alerts import sending, signing
from controlplane.alerts.deliveries import new_delivery, tell
from controlplane.alerts.facts import Facts
from controlplane.alerts.models import Alert, AlertRule, Delivery, Silence, Webhook
from controlplane.alerts.rules import Finding, find
from controlplane.alerts.selectors import silences
from controlplane.events.publish import publish
from controlplane.events.schema import AlertChanged
from controlplane.records.services import audit

LONGEST_SILENCE = timedelta(days=31)
SYSTEM = "system:alerts"


class AlertError(ValueError):
    """What was asked contradicts the present state; the text says why."""


# ------------------------------------------------------------------ judging


@transaction.atomic
def evaluate(facts: Facts, *, now: datetime) -> list[Alert]:
    """Judge every enabled rule; returns the alerts that began to fire or ended."""
    open_alerts: dict[tuple[int, str], Alert] = {
        (alert.rule_id, alert.subject): alert
        for alert in Alert.objects.select_related("rule").filter(state__in=Alert.OPEN_STATES)
    }
    changed: list[Alert] = []
    judged: set[int] = set()
    for rule in AlertRule.objects.filter(enabled=True):
        findings = find(rule.kind, rule.parameters, facts)
        if findings is None:
            continue
        judged.add(rule.pk)
        for finding in findings:
            alert = open_alerts.pop((rule.pk, finding.subject[:200]), None)
            changed += _holds(rule, alert, finding, now)
    for (rule_id, _), alert in open_alerts.items():
        if rule_id in judged or not alert.rule.enabled:
            changed += _ended(alert, now)
    _announce(changed, now)
    return changed


def _holds(rule: AlertRule, alert: Alert | None, finding: Finding, now: datetime) -> list[Alert]:
    if alert is None:
        alert = Alert(
            rule=rule, subject=finding.subject[:200], severity=rule.severity, started_at=now, seen_at=now
        )
    fires = alert.follow(value=finding.value, summary=finding.summary, now=now)
    alert.save()
    return [alert] if fires else []


def _ended(alert: Alert, now: datetime) -> list[Alert]:
    if alert.state == Alert.State.PENDING:
        alert.delete()
        return []
    alert.resolve(now=now)
    alert.save()
    return [alert]


def _announce(changed: list[Alert], now: datetime) -> None:
    active = list(silences(in_force_at=now)) if changed else []
    for alert in changed:
        publish(_event(alert, now))
        audit(
            actor=SYSTEM,
            action=f"alert.{alert.state}",
            object_type="alert",
            object_id=str(alert.pk),
            after={"rule": alert.rule.name, "subject": alert.subject, "severity": alert.severity},
            reason=alert.summary,
            now=now,
        )
        if not any(each.covers(alert, now=now) for each in active):
            tell(f"alert.{alert.state}", alert, now=now)


def _event(alert: Alert, now: datetime, actor: str = SYSTEM) -> AlertChanged:
    return AlertChanged.of(
        at=now,
        alert_id=alert.pk,
        rule=alert.rule.name,
        subject=alert.subject,
        severity=alert.severity,
        state=alert.state,
        summary=alert.summary,
        acknowledged_by=alert.acknowledged_by,
        actor=actor,
    )


# ------------------------------------------------------------------ people


@transaction.atomic
def acknowledge(*, alert: Alert, actor: str, reason: str = "") -> Alert:
    """Somebody cares. Raises :class:`AlertError` for one that is over."""
    if alert.state not in Alert.OPEN_STATES:
        raise AlertError(f"alert {alert.pk} is over since {alert.resolved_at:%Y-%m-%d %H:%M}")
    now = timezone.now()
    alert.acknowledge(by=actor, now=now)
    alert.save(update_fields=["acknowledged_by", "acknowledged_at"])
    audit(
        actor=actor, action="alert.acknowledge", object_type="alert", object_id=str(alert.pk), reason=reason
    )
    publish(_event(alert, now, actor))
    return alert


@transaction.atomic
def add_silence(
    *, rule: AlertRule | None, subject: str, ends_at: datetime, actor: str, reason: str
) -> Silence:
    """Tell nobody of matching alerts until then. Raises ``ValidationError``."""
    now = timezone.now()
    if not now < ends_at <= now + LONGEST_SILENCE:
        raise ValidationError(
            {"ends_at": f"must be in the future, at most {LONGEST_SILENCE.days} days ahead"}
        )
    if not reason.strip():
        raise ValidationError({"reason": "say why: the next shift will want to know"})
    row = Silence.objects.create(
        rule=rule, subject=subject, starts_at=now, ends_at=ends_at, created_by=actor, reason=reason
    )
    after = {"rule": rule.name if rule else "", "subject": subject, "ends_at": ends_at.isoformat()}
    audit(actor=actor, action="silence.add", object_type="silence", object_id=str(row.pk), after=after,
          reason=reason)  # fmt: skip
    return row


@transaction.atomic
def end_silence(*, silence: Silence, actor: str, reason: str = "") -> Silence:
    """Tell again. Raises :class:`AlertError` when it is over already."""
    now = timezone.now()
    if silence.ends_at <= now:
        raise AlertError("this silence is over already")
    silence.ends_at = now
    silence.save(update_fields=["ends_at"])
    audit(actor=actor, action="silence.end", object_type="silence", object_id=str(silence.pk), reason=reason)
    return silence


RULE_FIELDS = ("name", "kind", "parameters", "severity", "for_s", "enabled", "description", "runbook_url")


@transaction.atomic
def create_rule(*, actor: str, reason: str = "", **fields: Any) -> AlertRule:
    """A new rule. Raises ``ValidationError``."""
    return _save_rule(AlertRule(), fields, "alert_rule.create", actor, reason)


@transaction.atomic
def change_rule(*, rule: AlertRule, actor: str, reason: str = "", **fields: Any) -> AlertRule:
    """Change what is given. Raises ``ValidationError``."""
    return _save_rule(rule, fields, "alert_rule.change", actor, reason)


@transaction.atomic
def delete_rule(*, rule: AlertRule, actor: str, reason: str = "") -> None:
    """Forget a rule and its alerts."""
    before = {name: getattr(rule, name) for name in RULE_FIELDS}
    audit(actor=actor, action="alert_rule.delete", object_type="alert_rule", object_id=rule.name,
          before=before, reason=reason)  # fmt: skip
    rule.delete()


def _save_rule(rule: AlertRule, fields: dict[str, Any], action: str, actor: str, reason: str) -> AlertRule:
    before = {name: getattr(rule, name) for name in RULE_FIELDS} if rule.pk else {}
    for name, value in fields.items():
        setattr(rule, name, value)
    rule.full_clean()
    rule.save()
    after = {name: getattr(rule, name) for name in RULE_FIELDS if before.get(name) != getattr(rule, name)}
    _audit_change(actor, action, "alert_rule", rule.name, before, after, reason)
    return rule


# ------------------------------------------------------------------ webhooks

HOOK_FIELDS = ("name", "url", "events", "least_severity", "enabled")


@transaction.atomic
def create_webhook(*, actor: str, reason: str = "", **fields: Any) -> tuple[Webhook, str]:
    """A new webhook and, this once, its secret. Raises ``ValidationError``, ``ForbiddenTargetError``."""
    hook = Webhook(salt=secrets.token_hex(16), created_by=actor, created_at=timezone.now())
    _save_hook(hook, fields, "webhook.create", actor, reason)
    return hook, signing.secret_of(hook.salt)


@transaction.atomic
def change_webhook(*, webhook: Webhook, actor: str, reason: str = "", **fields: Any) -> Webhook:
    """Change what is given. Raises ``ValidationError``, ``ForbiddenTargetError``."""
    return _save_hook(webhook, fields, "webhook.change", actor, reason)


@transaction.atomic
def rotate_webhook_secret(*, webhook: Webhook, actor: str, reason: str = "") -> str:
    """A new secret, shown this once; the old one is no longer used from now on."""
    webhook.salt = secrets.token_hex(16)
    webhook.save(update_fields=["salt"])
    audit(actor=actor, action="webhook.rotate_secret", object_type="webhook", object_id=webhook.name,
          reason=reason)  # fmt: skip
    return signing.secret_of(webhook.salt)


@transaction.atomic
def delete_webhook(*, webhook: Webhook, actor: str, reason: str = "") -> None:
    """Forget it with its delivery log."""
    before = {name: getattr(webhook, name) for name in HOOK_FIELDS}
    audit(actor=actor, action="webhook.delete", object_type="webhook", object_id=webhook.name,
          before=before, reason=reason)  # fmt: skip
    webhook.delete()


@transaction.atomic
def test_webhook(*, webhook: Webhook, actor: str) -> Delivery:
    """Send a test event; the delivery log says how it went."""
    return new_delivery(webhook, "test", {"by": actor}, now=timezone.now())


def _save_hook(hook: Webhook, fields: dict[str, Any], action: str, actor: str, reason: str) -> Webhook:
    before = {name: getattr(hook, name) for name in HOOK_FIELDS} if hook.pk else {}
    for name, value in fields.items():
        setattr(hook, name, value)
    hook.full_clean()
    if hook.url != before.get("url"):
        _check_target(hook.url)
    hook.save()
    after = {name: getattr(hook, name) for name in HOOK_FIELDS if before.get(name) != getattr(hook, name)}
    _audit_change(actor, action, "webhook", hook.name, before, after, reason)
    return hook


def _check_target(url: str) -> None:
    """Judged again at every delivery; here so that whoever types it is told at once."""
    sending.check_url(url)
    try:
        sending.resolve(url)
    except sending.SendingError as error:
        raise ValidationError({"url": str(error)}) from error


def _audit_change(
    actor: str, action: str, kind: str, name: str, before: dict[str, Any], after: dict[str, Any], reason: str
) -> None:
    audit(
        actor=actor,
        action=action,
        object_type=kind,
        object_id=name,
        before={field: before[field] for field in after if field in before},
        after=after,
        reason=reason,
    )
