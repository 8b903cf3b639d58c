"""Fleet operations on the queue ``jobs``: bring agents to what the rows say."""

from __future__ import annotations

import threading
import time

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from controlplane import redis_client
from controlplane.fleet import live_status, services
from controlplane.fleet.progress import follow_operations
from controlplane.fleet.ray_agents import ray_agents
from controlplane.fleet.reconciliation import forget_failures, reconcile
from controlplane.fleet.rolling import advance_rolling_restarts
from engine_agents.messages import InstanceStatus

_one_at_a_time = threading.Lock()


@shared_task(ignore_result=True)
def reconcile_fleet() -> None:
    """Start what is pending, stop what is to leave, restart what died, tell how far it is. Every 2 s."""
    if not _one_at_a_time.acquire(blocking=False):
        return
    try:
        now = timezone.now()
        forget_failures(now)
        advance_rolling_restarts(now=now)
        reconcile(agents=ray_agents(), start_timeout_s=settings.AGENT_START_TIMEOUT_S, now=timezone.now())
        follow_operations(reports=_reports(), now=timezone.now())
    finally:
        _one_at_a_time.release()


def _reports() -> dict[str, InstanceStatus]:
    try:
        return {each.status.instance_id: each.status for each in live_status.read_statuses(time.time())}
    except (redis_client.RedisError, OSError):
        return {}


@shared_task(ignore_result=True)
def follow_gateways() -> None:
    """Keep the list of gateway processes. Sent every 5 s."""
    services.sync_gateways(live_status.read_gateways(), now=timezone.now())
