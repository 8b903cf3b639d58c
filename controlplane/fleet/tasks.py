"""Fleet operations on the queue ``jobs``: bring agents to what the rows say."""

from __future__ import annotations

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from controlplane.fleet import live_status, services
from controlplane.fleet.ray_agents import ray_agents
from controlplane.fleet.reconciliation import reconcile


@shared_task(ignore_result=True)
def reconcile_fleet() -> None:
    """Start what is pending, stop what has drained and is to leave, restart what died. Sent every 5 s."""
    reconcile(agents=ray_agents(), start_timeout_s=settings.AGENT_START_TIMEOUT_S, now=timezone.now())


@shared_task(ignore_result=True)
def follow_gateways() -> None:
    """Keep the list of gateway processes. Sent every 5 s."""
    services.sync_gateways(live_status.read_gateways(), now=timezone.now())
