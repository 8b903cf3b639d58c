"""This gateway's own report: its latency per class and what waits here, to Redis every second.

Losing reports is harmless, so a Redis that is away is simply tried again next second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from controlplane import redis_client
from controlplane.fleet.live_status import GATEWAYS_HASH
from engine_agents.messages import GatewayStatus, encode

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
GATEWAYS_CHANNEL = GATEWAYS_HASH


class StatusPublisher:
    """Publishes until cancelled, then takes the report back: this gateway is no more."""

    def __init__(self, gateway_id: str, report: Callable[[], GatewayStatus]) -> None:
        self._gateway_id, self._report = gateway_id, report
        self._reachable = True

    async def run(self) -> None:
        try:
            while True:
                await self._attempt(self._publish)
                await asyncio.sleep(INTERVAL_S)
        finally:
            await self._attempt(self._remove)

    async def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            await action()
            self._reachable = True
        except (redis_client.RedisError, OSError, TimeoutError) as error:
            if self._reachable:
                logger.warning("this gateway's report cannot be published: %s", type(error).__name__)
            self._reachable = False

    async def _publish(self) -> None:
        report = encode(self._report())
        async with redis_client.connect_async() as client, client.pipeline(transaction=False) as pipeline:
            pipeline.hset(redis_client.key(GATEWAYS_HASH), self._gateway_id, cast(Any, report))
            pipeline.publish(redis_client.key(GATEWAYS_CHANNEL), report)
            await pipeline.execute()

    async def _remove(self) -> None:
        async with redis_client.connect_async() as client:
            await cast(Any, client.hdel(redis_client.key(GATEWAYS_HASH), self._gateway_id))
