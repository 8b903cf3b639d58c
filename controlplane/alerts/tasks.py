"""Webhooks, on the jobs' queue."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from controlplane.alerts import deliveries


@shared_task(ignore_result=True, soft_time_limit=30, time_limit=60)
def deliver_webhook(delivery_id: int) -> str:
    """One attempt; the row says how it went and when the next one is due."""
    row = deliveries.attempt(delivery_id)
    return "nothing to do" if row is None else row.state


@shared_task(ignore_result=True, soft_time_limit=60, time_limit=90)
def sweep_webhooks() -> int:
    """Send on what is due and has no message under way; returns how many."""
    due = deliveries.sweep(now=timezone.now())
    for delivery_id in due:
        deliver_webhook.apply_async(args=[delivery_id], retry=False)
    return len(due)
