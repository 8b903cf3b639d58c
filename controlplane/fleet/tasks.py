"""Fleet operations on the queue ``jobs``: bring agents to what the rows say."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from controlplane import redis_client
from controlplane.fleet import jobs_status, live_status, services
from controlplane.fleet.jobs_status import FleetStatus
from controlplane.fleet.progress import follow_operations
from controlplane.fleet.ray_agents import cluster_nodes, ray_agents, ray_version
from controlplane.fleet.reconciliation import forget_failures, reconcile
from controlplane.fleet.rolling import advance_rolling_restarts
from engine_agents.messages import InstanceStatus

logger = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


@shared_task(ignore_result=True)
def reconcile_fleet() -> None:
    """Start what is pending, stop what is to leave, restart what died, tell how far it is. Every 2 s."""
    if not _one_at_a_time.acquire(blocking=False):
        return
    try:
        forget_failures(timezone.now())
        advance_rolling_restarts(now=timezone.now())
        problem = reconcile(
            agents=ray_agents(), start_timeout_s=settings.AGENT_START_TIMEOUT_S, now=timezone.now()
        )
        operations = follow_operations(reports=_reports(), now=timezone.now())
        _tell(problem, operations)
    finally:
        _one_at_a_time.release()


def _tell(problem: str, operations: int) -> None:
    """Leave word of how the fleet's jobs do, what they see of Ray included."""
    nodes, trouble = cluster_nodes()
    problem = problem or trouble
    try:
        before, now_s = jobs_status.read(), time.time()
        status = FleetStatus(
            at_s=now_s,
            problem=problem,
            since_s=jobs_status.since(problem, before, now_s),
            operations=operations,
            ray_version=ray_version(),
            nodes=nodes or (before.nodes if before else []),
        )
        jobs_status.write(status)
    except (redis_client.RedisError, OSError) as error:
        logger.warning("nobody can be told how the fleet does: Redis %s", type(error).__name__)


def _reports() -> dict[str, InstanceStatus]:
    try:
        return {each.status.instance_id: each.status for each in live_status.read_statuses(time.time())}
    except (redis_client.RedisError, OSError):
        return {}


@shared_task(ignore_result=True)
def follow_gateways() -> None:
    """Keep the list of gateway processes. Sent every 5 s."""
    services.sync_gateways(live_status.read_gateways(), now=timezone.now())


@shared_task(ignore_result=True)
def delete_expired_fleet_history() -> None:
    """Retention of transitions and scaling decisions. Sent every hour."""
    services.delete_history_before(timezone.now() - timedelta(days=settings.RETENTION_DAYS))
