"""What this gateway knows of its pool's instances: their reports from Redis, kept in memory.

The view never blocks a request: without Redis the last reports stay valid for
instances whose links are alive, because a link's heartbeats say that they are,
and how much room they have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from controlplane import redis_client
from controlplane.fleet.live_status import (
    HOLES_KEY,
    STATUS_HASH,
    SeenStatus,
    StatusReader,
    to_cluster_snapshot,
)
from controlplane.gateway.links import Target
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.snapshot import ClassRule, ClusterSnapshot, InstanceSnapshot
from engine_agents.messages import InstanceStatus

logger = logging.getLogger(__name__)

RESYNC_INTERVAL_S = 2.0
"""The whole hash is read so often, beside the channel: a missed message costs no more."""
RETRY_FIRST_S, RETRY_LIMIT_S = 0.2, 5.0
LINK_TARGET_LIMIT_S = 30.0
"""An instance silent in Redis for longer is not sought any more."""
REFUSAL_PAUSE_S = 0.1
"""An instance that refused gets no work for so long, or until its next report."""
FAILURE_PAUSE_S = 0.5
"""An engine that ended a request by an error gets no work for so long, if another takes any: whoever
fails all that comes is always empty, and would draw all that comes."""
CHANGES_TOGETHER_S = 0.005
"""Reports that come within so short a time are one change: a large fleet sends many hundreds a second."""
HOLES_LIFETIME_S = 3.0
"""A hole is kept for so long after the loop's last word: without the loop the instance is used again."""
STATUS_CHANNEL = STATUS_HASH

_holes_decoder = msgspec.msgpack.Decoder(dict[str, dict[str, str]])


class FleetView:
    """Pure but for the arguments it is given: reports in, snapshots out."""

    def __init__(self, pool: str, incarnation: str, ledger: Ledger) -> None:
        self._pool, self._incarnation, self._ledger = pool, incarnation, ledger
        self._reader = StatusReader()
        self._incarnations: dict[str, str] = {}
        self._refused_until_s: dict[str, float] = {}
        self._failed_until_s: dict[str, float] = {}
        self._room_tokens: dict[str, int] = {}
        """As links said since the last report; of instances whose reports have stopped."""
        self._holes: Mapping[str, str] = {}
        self._holes_until_s = 0.0
        self.redis_alive = False

    def absorb(self, raw: Mapping[bytes, bytes], *, now_s: float, wall_s: float) -> None:
        """Reports by instance id, as Redis holds them; what cannot be read is left out."""
        self._account_for(self._reader.absorb(raw, now_s=now_s, wall_s=wall_s))

    def hear(self, payload: bytes, *, now_s: float, wall_s: float) -> None:
        """One report as published."""
        self._account_for(self._reader.hear(payload, now_s=now_s, wall_s=wall_s))

    def _account_for(self, seen: Iterable[SeenStatus]) -> None:
        for item in seen:
            if item.status.pool == self._pool and item.age_s == 0.0:
                self._account(item.status)

    def _account(self, status: InstanceStatus) -> None:
        instance_id = status.instance_id
        if self._incarnations.get(instance_id) != status.incarnation:
            self._incarnations[instance_id] = status.incarnation
            self._ledger.forget(instance_id)
        self._ledger.reconcile(instance_id, status.seen.get(self._incarnation, -1))
        self._refused_until_s.pop(instance_id, None)
        self._room_tokens.pop(instance_id, None)

    def heard(self, instance_id: str, room_tokens: int, seen_seq: int) -> None:
        """What an instance says on its link, twice a second: all there is while Redis is away."""
        if self.redis_alive or seen_seq < 0:
            return
        self._room_tokens[instance_id] = room_tokens
        self._ledger.reconcile(instance_id, seen_seq)

    def refused(self, instance_id: str, now_s: float) -> None:
        """It did not take a request: its report must be old."""
        self._refused_until_s[instance_id] = now_s + REFUSAL_PAUSE_S

    def failed(self, instance_id: str, now_s: float) -> None:
        """Its engine ended a request by an error."""
        self._failed_until_s = {name: until for name, until in self._failed_until_s.items() if now_s < until}
        self._failed_until_s[instance_id] = now_s + FAILURE_PAUSE_S

    def absorb_holes(self, payload: bytes | None, *, now_s: float) -> None:
        """What the loop declares, as Redis holds it (``None``: nothing); garbage is no hole."""
        try:
            declared = _holes_decoder.decode(payload) if payload else {}
        except msgspec.DecodeError:
            declared = {}
        self._holes = declared.get(self._pool, {})
        self._holes_until_s = now_s + HOLES_LIFETIME_S

    def holes(self, now_s: float) -> Mapping[str, str]:
        """Instance -> the request it is kept free for, as the loop last said and not too long ago."""
        return self._holes if now_s < self._holes_until_s else {}

    def seen(self, now_s: float) -> list[SeenStatus]:
        """The pool's reports with their ages, for people."""
        return list(self._seen(now_s))

    def targets(self, now_s: float) -> list[Target]:
        """Where agents of this pool listen, as last reported."""
        return [
            Target(item.status.instance_id, item.status.data_endpoint, item.status.incarnation)
            for item in self._seen(now_s)
            if item.status.data_endpoint and (not self.redis_alive or item.age_s < LINK_TARGET_LIMIT_S)
        ]

    def snapshot(
        self, now_s: float, usable: frozenset[str], classes: Mapping[str, ClassRule]
    ) -> ClusterSnapshot:
        """The instances that requests can be sent to, as a policy sees them."""
        cluster = to_cluster_snapshot(self._seen(now_s), pool=self._pool, classes=classes, taken_at_s=now_s)
        instances = tuple(
            self._as_now(instance, now_s) for instance in cluster.instances if instance.instance_id in usable
        )
        return replace(cluster, instances=self._sparing_the_failing(instances, now_s))

    def _sparing_the_failing(
        self, instances: tuple[InstanceSnapshot, ...], now_s: float
    ) -> tuple[InstanceSnapshot, ...]:
        """Without those that failed a moment ago, unless nobody else takes anything."""
        failing = {name for name, until in self._failed_until_s.items() if now_s < until}
        if not failing or not any(
            each.accepting and not each.draining for each in instances if each.instance_id not in failing
        ):
            return instances
        return tuple(
            replace(each, accepting=False) if each.instance_id in failing else each for each in instances
        )

    def _as_now(self, instance: InstanceSnapshot, now_s: float) -> InstanceSnapshot:
        if now_s < self._refused_until_s.get(instance.instance_id, 0.0):
            return replace(instance, accepting=False)
        if not self.redis_alive:
            return self._by_its_link(instance)
        return instance

    def _by_its_link(self, instance: InstanceSnapshot) -> InstanceSnapshot:
        """The last report may have been of a busy moment: room made since then is known by the link."""
        room_tokens = self._room_tokens.get(instance.instance_id)
        if room_tokens is None:
            return replace(instance, age_s=0.0)
        return replace(
            instance,
            age_s=0.0,
            used_tokens=instance.capacity_tokens - room_tokens,
            reserved_tokens=0,
            queued_tokens=0,
            unprefilled_tokens=0,
        )

    def _seen(self, now_s: float) -> Iterable[SeenStatus]:
        return (item for item in self._reader.seen(now_s) if item.status.pool == self._pool)


class StatusFeed:
    """Keeps a view fed from Redis; a Redis that is away is asked again, with growing pauses."""

    def __init__(
        self,
        view: FleetView,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._view, self._clock, self._wall, self._on_change = view, clock, wall_clock, on_change
        self._telling: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._run()
        finally:
            if self._telling is not None:
                self._telling.cancel()

    async def _run(self) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await self._follow()
            except (redis_client.RedisError, OSError, TimeoutError) as error:
                if self._view.redis_alive or pause_s == RETRY_FIRST_S:
                    logger.warning("Redis is away, the last reports are used: %s", type(error).__name__)
                pause_s = RETRY_FIRST_S if self._view.redis_alive else min(2 * pause_s, RETRY_LIMIT_S)
                self._view.redis_alive = False
            await asyncio.sleep(pause_s)

    async def _follow(self) -> None:
        async with redis_client.connect_async() as client, client.pubsub() as channel:
            await channel.subscribe(redis_client.key(STATUS_CHANNEL), redis_client.key(HOLES_KEY))
            resync_at_s = 0.0
            while True:
                if self._clock() >= resync_at_s:
                    await self._resync(client)
                    resync_at_s = self._clock() + RESYNC_INTERVAL_S
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=0.5)
                if message is not None:
                    self._hear(message["channel"], message["data"])

    async def _resync(self, client: Any) -> None:
        pipeline = client.pipeline(transaction=False)
        pipeline.hgetall(redis_client.key(STATUS_HASH))
        pipeline.get(redis_client.key(HOLES_KEY))
        everything, holes = await pipeline.execute()
        if not self._view.redis_alive:
            logger.info("Redis answers: %d instances reported", len(everything))
        self._view.redis_alive = True
        self._view.absorb_holes(holes, now_s=self._clock())
        self._take(everything)

    def _hear(self, channel: bytes, data: bytes) -> None:
        if channel.decode() == redis_client.key(HOLES_KEY):
            self._view.absorb_holes(data, now_s=self._clock())
        else:
            self._view.hear(data, now_s=self._clock(), wall_s=self._wall())
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(CHANGES_TOGETHER_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._on_change()

    def _take(self, raw: Mapping[bytes, bytes]) -> None:
        self._view.absorb(raw, now_s=self._clock(), wall_s=self._wall())
        self._on_change()
