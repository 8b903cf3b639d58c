"""Celery tasks: the loop itself (queue ``loop``) and the upkeep of its history (queue ``jobs``).

Start the loop's worker with threads, so that it goes on listening while the
loop runs: ``celery -A console worker -Q loop --pool threads --concurrency 2``.
"""

from __future__ import annotations

import gc
import logging
import os
import secrets
import socket
import threading
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.utils import timezone

from controlplane.fleet.ray_agents import connection, ray_agents
from controlplane.fleet.reports import Limits
from controlplane.rebalancing import services
from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop
from controlplane.records.services import delete_requests_before

LEAD_EXPIRES_S = 4.0

logger = logging.getLogger(__name__)
stopping = threading.Event()
"""Set when this worker is asked to end; a warm shutdown would otherwise wait for the endless task."""


@worker_shutting_down.connect
def stop_the_loop(**_: Any) -> None:
    stopping.set()


@worker_ready.connect
def lead_at_once(sender: Any, **_: Any) -> None:
    """A worker of the queue ``loop`` need not wait for the next word of beat."""
    if "loop" in sender.app.amqp.queues.consume_from:
        run_rebalancing_loop.apply_async(expires=LEAD_EXPIRES_S)


@shared_task(ignore_result=True, acks_late=False)
def run_rebalancing_loop() -> str:
    """Lead until this worker stops, or return at once because another leads. Sent by beat every 5 s."""
    connection.ready(timeout_s=0.0)
    settle_garbage()
    loop = RebalancingLoop(owner=_owner(), agents=ray_agents(), settings=loop_settings())
    ended = loop.run(stopping)
    if loop.epoch:
        logger.info("rebalancing loop ended: %s", ended)
    return ended


@shared_task(ignore_result=True)
def delete_expired_history() -> None:
    """Retention of rounds, migrations and request records."""
    limit = timezone.now() - timedelta(days=settings.RETENTION_DAYS)
    services.delete_history_before(limit)
    services.delete_traces_before(limit)
    delete_requests_before(limit)


@shared_task(ignore_result=True)
def close_lost_migrations() -> int:
    """End migrations whose source will never report, and simulations whose worker died."""
    now = timezone.now()
    return services.close_lost_migrations(now=now) + services.close_lost_what_ifs(now=now)


@shared_task(ignore_result=True, acks_late=False)
def run_what_if(job_id: int) -> str:
    """Simulate a what-if job; on the queue ``whatif``, which nothing that serves waits for."""
    return services.carry_out_what_if(job_id)


def loop_settings() -> LoopSettings:
    return LoopSettings(
        interval_s=settings.TICK_INTERVAL_MS / 1000,
        lease_ttl_ms=settings.LEASE_TTL_MS,
        command_timeout_s=settings.COMMAND_TIMEOUT_S,
        limits=Limits(stale_s=settings.STATUS_STALE_S, dead_s=settings.STATUS_DEAD_S),
    )


def settle_garbage() -> None:
    """Keep what start-up made out of later collections: a full one costs a tick tens of milliseconds."""
    gc.collect()
    gc.freeze()


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
