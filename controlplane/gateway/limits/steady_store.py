"""Counters that never fail: Redis, or this process's own while Redis is away."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from controlplane.gateway.limits.redis_store import RedisStore
from controlplane.gateway.limits.store import Grant, LocalStore, Order, StoreError

logger = logging.getLogger(__name__)

RETRY_S = 1.0


class SteadyStore:
    """While Redis is away each gateway counts for itself, on its share of every limit.

    It tries Redis again every second. Counting locally begins with full buckets; back at
    Redis, what was used meanwhile is forgotten.
    """

    def __init__(self, common: RedisStore, clock: Callable[[], float]) -> None:
        self._common, self._clock = common, clock
        self._local: LocalStore | None = None
        self._retry_s = 0.0

    @property
    def common(self) -> bool:
        """Whether the counters are those of all gateways at present."""
        return self._local is None

    async def exchange(self, orders: Sequence[Order]) -> list[Grant]:
        if self._local is None or self._clock() >= self._retry_s:
            try:
                grants = await self._common.exchange(orders)
            except StoreError as error:
                self._away(error)
            else:
                self._back()
                return grants
        assert self._local is not None
        return await self._local.exchange(orders)

    def _away(self, error: StoreError) -> None:
        self._retry_s = self._clock() + RETRY_S
        if self._local is None:
            share = max(1, self._common.gateways)
            self._local = LocalStore(self._clock, share=share)
            logger.warning("limits are counted here alone (1/%d of each): Redis %s", share, error)

    def _back(self) -> None:
        if self._local is not None:
            self._local = None
            logger.warning("limits are counted in common again")

    async def close(self) -> None:
        await self._common.close()
