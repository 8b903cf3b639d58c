"""Telling webhooks: a row per event and webhook, tried with growing pauses until it is taken."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from controlplane.alerts import sending, signing
from controlplane.alerts.models import Alert, AlertRule, Delivery, Webhook

logger = logging.getLogger(__name__)

PAUSES = tuple(timedelta(seconds=seconds) for seconds in (10, 30, 120, 600, 1800, 3600, 7200))
"""Before each further attempt; after the last one it is given up (about four hours)."""
SEVERITIES = list(AlertRule.Severity.values)
CLAIMED_FOR = timedelta(seconds=60)


def tell(event: str, alert: Alert, *, now: datetime) -> list[Delivery]:
    """Rows for every webhook that wants this event; sent once the transaction is committed."""
    wanted = [
        hook
        for hook in Webhook.objects.filter(enabled=True)
        if event in hook.events and SEVERITIES.index(alert.severity) >= SEVERITIES.index(hook.least_severity)
    ]
    return [new_delivery(hook, event, payload_of(alert), now=now) for hook in wanted]


def new_delivery(hook: Webhook, event: str, payload: dict[str, Any], *, now: datetime) -> Delivery:
    """One row, and a message to the jobs' worker once it is committed (the sweep makes up for a lost one)."""
    row = Delivery.objects.create(webhook=hook, event=event, payload=payload, due_at=now, created_at=now)
    transaction.on_commit(lambda: _send_soon(row.pk, 0))
    return row


def payload_of(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.pk,
        "rule": alert.rule.name,
        "kind": alert.rule.kind,
        "subject": alert.subject,
        "severity": alert.severity,
        "state": alert.state,
        "summary": alert.summary,
        "value": alert.value,
        "started_at": alert.started_at.isoformat(),
        "runbook_url": alert.rule.runbook_url,
    }


def attempt(delivery_id: int) -> Delivery | None:
    """Try one delivery that is due; ``None``: there is nothing to do (another worker has it)."""
    now = timezone.now()
    claimed = Delivery.objects.filter(pk=delivery_id, state=Delivery.State.WAITING, due_at__lte=now).update(
        due_at=now + CLAIMED_FOR
    )
    if not claimed:
        return None
    row = Delivery.objects.select_related("webhook").get(pk=delivery_id)
    row.attempts += 1
    row.status, row.problem = None, ""
    final = False
    try:
        row.status = _post(row, now)
        if not 200 <= row.status < 300:
            row.problem = f"answered {row.status}"
    except sending.ForbiddenTargetError as error:
        row.problem, final = str(error)[:300], True
    except sending.SendingError as error:
        row.problem = str(error)[:300]
    _settle(row, now, final=final)
    return row


def sweep(*, now: datetime) -> list[int]:
    """Ids of deliveries that are due: what a lost message or a dead worker left behind."""
    due = Delivery.objects.filter(state=Delivery.State.WAITING, due_at__lte=now)
    return list(due.order_by("due_at").values_list("pk", flat=True)[:200])


def delete_deliveries_before(moment: datetime) -> int:
    deleted, _ = Delivery.objects.filter(finished_at__lt=moment).delete()
    return deleted


def _post(row: Delivery, now: datetime) -> int:
    body = json.dumps(
        {"id": row.pk, "event": row.event, "sent_at": now.isoformat(), "data": row.payload}
    ).encode()
    signed = signing.signature(signing.secret_of(row.webhook.salt), body, int(now.timestamp()))
    return sending.send(row.webhook.url, body, {signing.HEADER: signed, "Llumdeck-Event": row.event})


def _settle(row: Delivery, now: datetime, *, final: bool) -> None:
    if not row.problem:
        row.state, row.finished_at = Delivery.State.DELIVERED, now
    elif final or row.attempts > len(PAUSES):
        row.state, row.finished_at = Delivery.State.FAILED, now
        logger.warning("webhook %s: %s given up: %s", row.webhook.name, row.event, row.problem)
    else:
        row.due_at = now + PAUSES[row.attempts - 1]
        _send_soon(row.pk, int(PAUSES[row.attempts - 1].total_seconds()) + 1)
    row.save(update_fields=["state", "attempts", "due_at", "status", "problem", "finished_at"])


def _send_soon(delivery_id: int, countdown_s: int) -> None:
    from controlplane.alerts.tasks import deliver_webhook

    try:
        deliver_webhook.apply_async(args=[delivery_id], countdown=countdown_s, retry=False)
    except Exception as error:
        logger.warning("a webhook's delivery waits for the next sweep: %s", type(error).__name__)
