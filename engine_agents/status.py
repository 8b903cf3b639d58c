"""From an engine's load to Redis: the agent's report and the outcomes of its migrations.

The report is published at load changes, at most every ``status_min_interval_s``
and at least every ``status_max_interval_s``; an outcome goes out as soon as
Redis takes it, in order. Redis being away disturbs nothing: what waits is
bounded (reports: the newest; outcomes: the last thousand), attempts are spaced
out, and what could not be told is counted.

Stream entries have one field, ``outcome``: a ``MigrationOutcome`` as MessagePack.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import redis
import redis.asyncio

from engine_agents.engines.port import EngineLoad
from engine_agents.messages import ClassLoad, InstanceStatus, MigrationOutcome, encode

logger = logging.getLogger(__name__)

STATUS_KEY = "status"
MIGRATIONS_KEY = "migrations"
OUTCOME_FIELD = "outcome"
STREAM_LENGTH = 10_000
PENDING_OUTCOMES = 1_000
RATE_WINDOW_S = 1.0
REDIS_TIMEOUT_S = 1.0
RETRY_AFTER_S = 0.5


@dataclass(frozen=True, slots=True)
class LoadRates:
    """What the engine's counters say about the recent past; zeros where nothing happened."""

    step_ms: float
    """Mean over the steps since the last reading."""
    tokens_per_s: float
    """Over about the last second: between two reports there may be a few tokens only."""


class RateWindow:
    """Readings of the engine's counters over the last second or so."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, EngineLoad]] = deque()

    def rates(self, load: EngineLoad, now: float) -> LoadRates:
        """Take a reading at ``now`` (any steady clock) and compare it with the earlier ones."""
        _, last = self._readings[-1] if self._readings else (now, load)
        self._readings.append((now, load))
        while len(self._readings) > 2 and self._readings[1][0] <= now - RATE_WINDOW_S:
            self._readings.popleft()
        since, first = self._readings[0]
        steps = load.steps_total - last.steps_total
        seconds = load.step_seconds_total - last.step_seconds_total
        elapsed_s = now - since
        return LoadRates(
            step_ms=1e3 * seconds / steps if steps > 0 else 0.0,
            tokens_per_s=(load.tokens_total - first.tokens_total) / elapsed_s if elapsed_s > 0 else 0.0,
        )


def class_loads(load: EngineLoad) -> list[ClassLoad]:
    return [
        ClassLoad(
            slo_class=one.slo_class, running=one.running, waiting=one.waiting, used_blocks=one.used_blocks
        )
        for one in load.per_class
    ]


def room_tokens(load: EngineLoad, total_blocks: int, block_size_tokens: int) -> int:
    """Tokens that could still be brought in: neither used nor reserved nor wanted by who waits."""
    free = total_blocks - load.used_blocks - load.reserved_blocks - load.queued_blocks
    return max(0, free) * block_size_tokens


class StatusReporter:
    """Publishes to Redis from the agent's event loop; nothing here is waited for by serving."""

    def __init__(
        self,
        redis_url: str,
        prefix: str,
        make_status: Callable[[int, float], InstanceStatus],
        *,
        min_interval_s: float,
        max_interval_s: float,
    ) -> None:
        """``make_status(seq, now_s)`` makes a report; with an empty ``redis_url`` nothing is published."""
        self._redis_url = redis_url
        self._prefix = prefix
        self._make_status = make_status
        self._min_interval_s = min_interval_s
        self._max_interval_s = max_interval_s
        self._changed = asyncio.Event()
        self._outcomes: deque[bytes] = deque()
        self._outcome_waits = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._seq = 0
        self.failures = 0
        """Attempts that Redis did not take."""
        self.outcomes_lost = 0
        """Outcomes dropped because too many waited."""

    def start(self) -> None:
        if self._redis_url:
            self._tasks = [
                asyncio.create_task(self._publish_reports()),
                asyncio.create_task(self._publish_outcomes()),
            ]

    async def close(self) -> None:
        """Tell what can be told within the time-out, then stop."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(redis.RedisError, OSError, TimeoutError):
            async with asyncio.timeout(REDIS_TIMEOUT_S), self._connect() as client:
                while self._outcomes:
                    await self._send_outcome(client)
                await self._send_report(client)

    def touch(self) -> None:
        """The load changed."""
        self._changed.set()

    def outcome(self, outcome: MigrationOutcome) -> None:
        if not self._redis_url:
            return
        if len(self._outcomes) >= PENDING_OUTCOMES:
            self._outcomes.popleft()
            self.outcomes_lost += 1
        self._outcomes.append(encode(outcome))
        self._outcome_waits.set()

    def _connect(self) -> redis.asyncio.Redis:
        return redis.asyncio.Redis.from_url(
            self._redis_url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S
        )

    async def _publish_reports(self) -> None:
        async with self._connect() as client:
            while True:
                self._changed.clear()
                if not await self._attempt(self._send_report(client)):
                    await asyncio.sleep(RETRY_AFTER_S)
                    continue
                await asyncio.sleep(self._min_interval_s)
                # Not wait_for: it can swallow the cancellation that arrives together with the event.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._max_interval_s - self._min_interval_s):
                        await self._changed.wait()

    async def _publish_outcomes(self) -> None:
        async with self._connect() as client:
            while True:
                await self._outcome_waits.wait()
                if not self._outcomes:
                    self._outcome_waits.clear()
                elif not await self._attempt(self._send_outcome(client)):
                    await asyncio.sleep(RETRY_AFTER_S)

    async def _attempt(self, sending: Awaitable[None]) -> bool:
        try:
            await sending
        except (redis.RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            if self.failures in (1, 10, 100) or self.failures % 1000 == 0:
                logger.warning("Redis takes no reports (%d times): %s", self.failures, error)
            return False
        return True

    async def _send_report(self, client: redis.asyncio.Redis) -> None:
        self._seq += 1
        status = self._make_status(self._seq, time.time())
        data, key = encode(status), f"{self._prefix}{STATUS_KEY}"
        pipeline = client.pipeline(transaction=False)
        pipeline.hset(key, status.instance_id, data)
        pipeline.publish(key, data)
        await pipeline.execute()

    async def _send_outcome(self, client: redis.asyncio.Redis) -> None:
        outcome = self._outcomes[0]
        key = f"{self._prefix}{MIGRATIONS_KEY}"
        await client.xadd(key, {OUTCOME_FIELD: outcome}, maxlen=STREAM_LENGTH, approximate=True)
        if self._outcomes and self._outcomes[0] is outcome:
            self._outcomes.popleft()
