"""Where the hub looks: one Redis connection pool and the database, read four times a second.

All of Redis that the page shows comes in one round trip per frame, whatever the
number of clients; events are pushed by one subscription. Reading the hash is
cheaper than following every report (agents publish up to twenty times a second)
and heals by itself after any loss.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import redis.asyncio

from controlplane import redis_client
from controlplane.events import schema
from controlplane.events.publish import CHANNEL
from controlplane.fleet import watching
from controlplane.fleet.live_status import GATEWAYS_HASH, STATUS_HASH
from controlplane.rebalancing.selectors import LOOP_STATUS_KEY
from controlplane.rebalancing.types import LoopStatus
from engine_agents.messages import MigrationOutcome, RequestInfo

MIGRATIONS_STREAM = "migrations"
FIRST_OUTCOMES = 500
MAX_OUTCOMES_PER_READ = 500
MAX_EVENTS_PER_READ = 200

_outcome_decoder = msgspec.msgpack.Decoder(MigrationOutcome)


@dataclass(slots=True)
class Reading:
    """One look at Redis."""

    statuses: dict[bytes, bytes]
    gateways: dict[bytes, bytes]
    loop: LoopStatus | None = None
    """``None``: nobody ever led, or its report expired."""
    outcomes: list[MigrationOutcome] = field(default_factory=list)
    events: list[schema.Event] = field(default_factory=list)
    detail: dict[str, list[RequestInfo]] = field(default_factory=dict)
    """Requests per instance that was asked for and is known by now."""
    undecodable: int = 0


class RedisSource:
    """Reads live status. Every method raises ``RedisError`` or ``OSError`` when Redis is away."""

    def __init__(self) -> None:
        self._client: redis.asyncio.Redis | None = None
        self._pubsub: Any = None
        self._cursor = b""
        """Id of the last outcome read; empty before the first look."""

    async def read(self, detail_of: Sequence[str] = ()) -> Reading:
        """Everything that is or became known since the last call, and the requests on these instances."""
        client = await self._connected()
        pipeline = client.pipeline(transaction=False)
        pipeline.hgetall(redis_client.key(STATUS_HASH))
        pipeline.hgetall(redis_client.key(GATEWAYS_HASH))
        pipeline.get(redis_client.key(LOOP_STATUS_KEY))
        self._ask_for_outcomes(pipeline)
        if detail_of:
            watching.look_in(pipeline, detail_of, wall_s=time.time())
        statuses, gateways, loop, entries, *watched = await pipeline.execute()
        reading = Reading(statuses=statuses, gateways=gateways)
        _take_loop(loop, reading)
        self._take_outcomes(entries, reading)
        if detail_of:
            reading.detail = watching.found(detail_of, watched[-1])
        await self._take_events(reading)
        return reading

    async def close(self) -> None:
        """Drop the connections; the next read makes new ones."""
        pubsub, client = self._pubsub, self._client
        self._pubsub = self._client = None
        for each in (pubsub, client):
            if each is not None:
                await each.aclose()

    async def _connected(self) -> redis.asyncio.Redis:
        if self._client is None:
            client = redis_client.connect_async()
            self._client, self._pubsub = client, client.pubsub(ignore_subscribe_messages=True)
            await self._pubsub.subscribe(redis_client.key(CHANNEL))
        return self._client

    def _ask_for_outcomes(self, pipeline: Any) -> None:
        stream = redis_client.key(MIGRATIONS_STREAM)
        if self._cursor:
            pipeline.xrange(stream, min=b"(" + self._cursor, count=MAX_OUTCOMES_PER_READ)
        else:
            pipeline.xrevrange(stream, count=FIRST_OUTCOMES)

    def _take_outcomes(self, entries: list[tuple[bytes, dict[bytes, bytes]]], reading: Reading) -> None:
        if not self._cursor:
            entries = entries[::-1]
        for entry_id, fields in entries:
            self._cursor = entry_id
            for payload in fields.values():
                try:
                    reading.outcomes.append(_outcome_decoder.decode(payload))
                except msgspec.DecodeError:
                    reading.undecodable += 1

    async def _take_events(self, reading: Reading) -> None:
        for _ in range(MAX_EVENTS_PER_READ):
            message = await self._pubsub.get_message(timeout=0.0)
            if message is None:
                return
            try:
                reading.events.append(schema.decode(message["data"]))
            except schema.EventError:
                reading.undecodable += 1


def _take_loop(raw: bytes | None, reading: Reading) -> None:
    try:
        reading.loop = msgspec.json.decode(raw, type=LoopStatus) if raw else None
    except msgspec.DecodeError:
        reading.undecodable += 1
