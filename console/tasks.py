"""Jobs of the console: judging the alert rules on what all parts say, and forgetting what is old."""

from __future__ import annotations

import time
from datetime import timedelta

from axes.models import AccessAttempt, AccessFailureLog
from celery import shared_task
from django.conf import settings
from django.utils import timezone

from console.api.idempotency import forget_old_answers
from console.readings import read_facts
from controlplane.alerts.deliveries import delete_deliveries_before
from controlplane.alerts.services import evaluate
from controlplane.records.operations import delete_operations_before


@shared_task(ignore_result=True, soft_time_limit=20, time_limit=30)
def evaluate_alerts() -> int:
    """Judge every rule once; returns how many alerts began or ended."""
    now = timezone.now()
    return len(evaluate(read_facts(now=now, wall_s=time.time()), now=now))


@shared_task(ignore_result=True)
def forget_what_is_old() -> dict[str, int]:
    """Answers kept for retries, ended operations, delivered webhooks, old sign-in attempts."""
    moment = timezone.now() - timedelta(days=settings.RETENTION_DAYS)
    attempts, _ = AccessAttempt.objects.filter(attempt_time__lt=moment).delete()
    failures, _ = AccessFailureLog.objects.filter(attempt_time__lt=moment).delete()
    return {
        "answers": forget_old_answers(),
        "operations": delete_operations_before(moment),
        "deliveries": delete_deliveries_before(moment),
        "sign_ins": attempts + failures,
    }
