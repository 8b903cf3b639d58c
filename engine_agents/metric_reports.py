"""From an engine's own metrics to Redis, every ten seconds; Redis being away disturbs nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

import redis
import redis.asyncio

from engine_agents.messages import encode
from engine_agents.metric_messages import METRICS_KEY, InstanceMetrics

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0
TIME_TO_LIVE_S = 60
"""What an agent that is gone has counted is forgotten after this."""
REDIS_TIMEOUT_S = 1.0


class MetricsReporter:
    """Used on the agent's loop; the metrics are collected beside it."""

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        collect: Callable[[float], InstanceMetrics],
        interval_s: float = INTERVAL_S,
    ) -> None:
        """``collect(now_s)`` is called on another thread; with an empty ``redis_url`` never."""
        self._redis_url = redis_url
        self._prefix = prefix
        self._collect = collect
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._redis_url:
            self._task = asyncio.create_task(self._publish())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _publish(self) -> None:
        async with redis.asyncio.Redis.from_url(
            self._redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        ) as client:
            while True:
                try:
                    await self._send(client)
                except Exception:
                    # Whoever scrapes sees that it is missing; serving must not.
                    logger.exception("the engine's metrics could not be collected")
                await asyncio.sleep(self._interval_s)

    async def _send(self, client: redis.asyncio.Redis) -> None:
        found = await asyncio.to_thread(self._collect, time.time())
        with contextlib.suppress(redis.RedisError, OSError, TimeoutError):
            key = f"{self._prefix}{METRICS_KEY}{found.instance_id}"
            await client.set(key, encode(found), ex=TIME_TO_LIVE_S)
