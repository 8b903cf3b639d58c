"""Celery tasks: the loop itself (queue ``loop``) and the upkeep of its history (queue ``jobs``).

Start the loop's worker with threads, so that it goes on listening while the
loop runs: ``celery -A console worker -Q loop --pool threads --concurrency 2``.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from django.utils import timezone

from controlplane import garbage, redis_client
from controlplane.fleet.ray_agents import ray_agents
from controlplane.fleet.ray_connection import connection
from controlplane.fleet.reports import Limits
from controlplane.rebalancing import services
from controlplane.rebalancing.lease import lease_holder
from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop
from controlplane.rebalancing.patience import Patience
from controlplane.records.history import roll_up
from controlplane.records.services import delete_requests_before
from controlplane.records.usage import delete_usage_before

STAND_BY_S = 1.0
"""Between two looks of a worker at whether somebody leads."""
MIGRATION_LOST_AFTER_S = 120.0
ROLL_UP_WITHIN_S = 10
"""Of a minute: coarse buckets are made once in each."""

logger = logging.getLogger(__name__)
stopping = threading.Event()
"""Set when this worker is asked to end; a warm shutdown would otherwise wait for the endless task."""
_leading = threading.Lock()
_preemptions: dict[str, services.PreemptionCounter] = {}
_moves_patience = Patience(MIGRATION_LOST_AFTER_S)
_what_if_patience = Patience(settings.WHAT_IF_TIMEOUT_S + 60.0)


@worker_shutting_down.connect
def stop_the_loop(**_: Any) -> None:
    stopping.set()


@worker_ready.connect
def stand_by(sender: Any, **_: Any) -> None:
    """A worker of the queue ``loop`` waits for no message: it leads as soon as nobody does.

    What beat sends has an expiry, which a worker whose clock is ahead would always find past.
    """
    if "loop" in sender.app.amqp.queues.consume_from:
        garbage.settle()
        threading.Thread(target=_stand_by, name="stand-by", daemon=True).start()


def _stand_by() -> None:
    while not stopping.is_set():
        try:
            if not lease_holder():
                lead()
        except redis_client.RedisError as error:
            logger.info("standing by without Redis: %s", type(error).__name__)
        except Exception:
            logger.exception("the rebalancing loop failed; it is begun again")
        stopping.wait(STAND_BY_S)


@shared_task(ignore_result=True, acks_late=False)
def run_rebalancing_loop() -> str:
    """Lead until this worker stops, or return at once because another leads. Sent by beat every 5 s."""
    return lead()


def lead() -> str:
    """Lead while the lease can be had; one loop per process. Returns why it ended."""
    if not _leading.acquire(blocking=False):
        return "leads already"
    try:
        connection.ready(timeout_s=0.0)
        loop = RebalancingLoop(owner=_owner(), agents=ray_agents(), settings=loop_settings())
        ended = loop.run(stopping)
        loop.close()
        if loop.epoch:
            logger.info("rebalancing loop ended: %s", ended)
        return ended
    finally:
        _leading.release()


@shared_task(ignore_result=True)
def delete_expired_history() -> None:
    """Retention of rounds, migrations, traces, request records and usage."""
    now = timezone.now()
    limit = now - timedelta(days=settings.RETENTION_DAYS)
    services.delete_history_before(limit)
    services.delete_traces_before(limit)
    delete_requests_before(limit)
    delete_usage_before((now - timedelta(days=settings.USAGE_RETENTION_DAYS)).date())


@shared_task(ignore_result=True)
def end_temporary_policies() -> int:
    """Take back policies whose time is over. Sent every 5 s."""
    return services.end_temporary_policies(now=timezone.now())


@shared_task(ignore_result=True)
def record_history() -> None:
    """How pools and classes fare, for charts. Sent every 10 s."""
    now = timezone.now()
    try:
        services.sample_pools(counters=_preemptions, stale_s=settings.STATUS_DEAD_S, now=now)
    except (redis_client.RedisError, OSError) as error:
        logger.info("no sample of this moment, Redis is away: %s", type(error).__name__)
    if now.second < ROLL_UP_WITHIN_S:
        roll_up(now=now)


@shared_task(ignore_result=True)
def close_lost_migrations() -> int:
    """End migrations whose source will never report, and simulations whose worker died."""
    now_s, now = time.monotonic(), timezone.now()
    return services.close_lost_migrations(
        patience=_moves_patience, now_s=now_s, now=now
    ) + services.close_lost_what_ifs(patience=_what_if_patience, now_s=now_s, now=now)


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


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
