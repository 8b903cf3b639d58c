"""The per-process hub of the live page: reads once, serves every client its latest.

Each client has one slot: the version it has seen. A frame is made when the
client can take it and holds everything since, so a slow client skips frames
instead of queueing them, and never slows another. Clients that are up to date
share the encoded bytes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

import msgspec
from asgiref.sync import sync_to_async
from django.db import DatabaseError

from console.dashboard.directory import Directory, read_directory
from console.dashboard.listeners import Listeners
from console.dashboard.source import Reading, RedisSource
from console.dashboard.watch import Watcher
from controlplane.fleet.asking import AskedGateway, ask_gateways
from controlplane.redis_client import RedisError

logger = logging.getLogger(__name__)

FRAME_S = 0.25
IDLE_FRAME_S = 2.0
"""How often to look while nobody does: keeps the history going."""
HEARTBEAT_S = 1.0
DIRECTORY_S = 5.0
"""How often rows are read without an event that says that they changed."""
DIRECTORY_ALONE_S = 2.0
"""The same while Redis is away and no event can come."""
ASKED_S = 2.0
"""How often gateways are asked themselves while Redis is away."""
DETAIL_S = 1.0
"""How often per-request detail is read while somebody subscribes to it."""
UNACKNOWLEDGED_FRAMES = 16
"""Frames on their way to one client; beyond that its slot waits."""
MAX_BACKOFF_S = 10.0
REFRESHING_EVENTS = frozenset({"instance", "tenant_class", "loop", "audit", "alert"})

encode = msgspec.json.Encoder().encode


class HubClock:
    """Wall-clock seconds that never jump: the wall is read once, then the monotonic clock."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() + self._offset


class Client:
    """One browser's slot."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._version: int | None = None
        self._wake = asyncio.Event()
        self._behind = False
        self._sent_at = 0.0
        self.topics: frozenset[str] = frozenset()
        self.seq = 0
        self.acknowledged = 0
        self._skipped = 0
        self._skipped_version = -1

    def offer(self) -> None:
        """There may be something new: wakes its sender, unless the client has not taken what it was sent."""
        if self._is_behind():
            self._note_skip()
        else:
            self._wake.set()

    def acknowledge(self, seq: int) -> None:
        self.acknowledged = max(self.acknowledged, min(seq, self.seq))
        if self._behind:
            self._wake.set()

    def subscribe(self, topics: frozenset[str]) -> None:
        """From now on also these; a snapshot follows when that is a change."""
        if topics != self.topics:
            self.topics = topics
            self._hub.hurry()
            self.resync()

    @property
    def skipped(self) -> int:
        """Frames it was not sent because it was behind: their news came merged into later ones."""
        return self._skipped

    def resync(self) -> None:
        """The next frame is a snapshot."""
        self._version = None
        self._wake.set()

    async def next_frame(self) -> bytes:
        """The next snapshot or delta; waits while there is nothing new or the client is behind."""
        while True:
            # Just after a frame there is nothing new: that is seen without looking at the clock.
            if self._version != self._hub.watcher.state.version or self._wake.is_set():
                frame = self._frame_now()
                if frame is not None:
                    return frame
            self._wake.clear()
            await self._wake.wait()

    def _frame_now(self) -> bytes | None:
        if self._is_behind():
            self._note_skip()
            return None
        now = self._hub.clock()
        if self._version is None:
            return self._snapshot(now)
        if now - self._sent_at < FRAME_S * 0.8:
            return None
        body = self._hub.delta_bytes(self._version, self.topics)
        if body is None:
            return self._snapshot(now)
        if body == b"{}" and now - self._sent_at < HEARTBEAT_S:
            return None
        return self._stamp(b"delta", body[1:] if body == b"{}" else b"," + body[1:], now)

    def _snapshot(self, now: float) -> bytes:
        state = encode(self._hub.watcher.state.snapshot(self.topics))
        topics = encode(sorted(self.topics))
        return self._stamp(b"snapshot", b',"topics":' + topics + b',"state":' + state + b"}", now)

    def _is_behind(self) -> bool:
        self._behind = self.seq - self.acknowledged >= UNACKNOWLEDGED_FRAMES
        return self._behind

    def _note_skip(self) -> None:
        version = self._hub.watcher.state.version
        if version != self._skipped_version:
            self._skipped_version = version
            self._skipped += 1
            self._hub.frames_skipped += 1

    def _stamp(self, kind: bytes, rest: bytes, now: float) -> bytes:
        self._version = self._hub.watcher.state.version
        self._sent_at = now
        self.seq += 1
        return b'{"type":"%s","seq":%d,"at":%.3f%s' % (kind, self.seq, now, rest)


class Hub:
    """One per process and event loop."""

    def __init__(
        self,
        *,
        source: RedisSource | None = None,
        directory: Callable[[], Directory] = read_directory,
        ask: Callable[[], list[AskedGateway]] = ask_gateways,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.watcher = Watcher()
        self.clock = clock or HubClock()
        self.clients: set[Client] = set()
        self.listeners = Listeners()
        self._source = source or RedisSource()
        self._read_directory = directory
        self._ask = ask
        self._ask_due = 0.0
        self.frames_skipped = 0
        """Over all clients, since the start."""
        self._encoded: dict[tuple[int, frozenset[str]], bytes] = {}
        self._encoded_version = -1
        self._directory_due = 0.0
        self._detail_due = 0.0
        self._attempts = 0
        self._redis_due = 0.0
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._hurry = asyncio.Event()

    async def join(self) -> Client:
        """A new client, once the first look is done."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="live-hub")
        client = Client(self)
        self.clients.add(client)
        self._hurry.set()
        await self._ready.wait()
        return client

    def hurry(self) -> None:
        """Look again at once."""
        self._detail_due = 0.0
        self._hurry.set()

    def leave(self, client: Client) -> None:
        self.clients.discard(client)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.listeners.stop()
        await self._source.close()

    def delta_bytes(self, since: int, topics: frozenset[str] = frozenset()) -> bytes | None:
        """Encoded delta since a version, made once per version and topics for all clients that need it."""
        state = self.watcher.state
        if self._encoded_version != state.version:
            self._encoded, self._encoded_version = {}, state.version
        key = (since, topics)
        if key not in self._encoded:
            parts = state.delta(since, topics)
            if parts is None:
                return None
            self._encoded[key] = encode(parts)
        return self._encoded[key]

    async def look(self) -> None:
        """One round: database when due, Redis when due, then wake the clients."""
        await self._look_at_database()
        await self._look_at_redis()
        await self._ask_gateways()
        self._ready.set()
        for client in self.clients:
            client.offer()

    async def _run(self) -> None:
        while True:
            started = self.clock()
            try:
                await self.look()
            except Exception:
                # The page must go on showing its age; the fault is in the log with its traceback.
                logger.exception("the live hub could not take what it read")
                await self._source.close()
                self._ready.set()
            await self._rest(started)

    async def _rest(self, started: float) -> None:
        self._hurry.clear()
        period = FRAME_S if self.clients else IDLE_FRAME_S
        wait = max(0.02, period - (self.clock() - started))
        try:
            await asyncio.wait_for(self._hurry.wait(), timeout=wait)
        except TimeoutError:
            return

    async def _look_at_redis(self) -> None:
        now = self.clock()
        if now < self._redis_due:
            self.watcher.pass_time(now=now)
            return
        try:
            reading = await self._source.read(detail_of=self._wanted_detail(now))
        except (RedisError, OSError) as error:
            await self._source.close()
            self._attempts += 1
            now = self.clock()
            self._redis_due = now + min(MAX_BACKOFF_S, 0.5 * 2 ** min(self._attempts, 6))
            self.watcher.redis_lost(
                plain_error(error), attempts=self._attempts, next_try_at=self._redis_due, now=now
            )
            return
        self._attempts = 0
        self._refresh_if_needed(reading)
        self.watcher.take_reading(reading, now=self.clock())

    async def _ask_gateways(self) -> None:
        """With Redis away, those who serve say themselves how they do."""
        now = self.clock()
        if not self._attempts or now < self._ask_due:
            return
        self._ask_due = now + ASKED_S
        try:
            asked = await asyncio.to_thread(self._ask)
        except DatabaseError:
            return
        reports = [each.answer.report for each in asked if each.answer is not None]
        self.watcher.take_gateway_reports(reports, asked=len(asked), now=self.clock())

    def _wanted_detail(self, now: float) -> list[str]:
        """The instances whose requests are to be read in this look."""
        if not any("requests" in client.topics for client in self.clients):
            self.watcher.forget_detail()
            return []
        if now < self._detail_due:
            return []
        self._detail_due = now + DETAIL_S
        return self.watcher.instance_ids()

    def _refresh_if_needed(self, reading: Reading) -> None:
        if any(event.to_dict()["type"] in REFRESHING_EVENTS for event in reading.events):
            self._directory_due = 0.0

    async def _look_at_database(self) -> None:
        now = self.clock()
        if now < self._directory_due:
            return
        self._directory_due = now + (DIRECTORY_ALONE_S if self._attempts else DIRECTORY_S)
        try:
            directory = await sync_to_async(self._read_directory)()
        except DatabaseError as error:
            self.watcher.database_answered(plain_error(error), now=now)
            return
        self.watcher.database_answered("", now=now)
        self.watcher.take_directory(directory, now=now)


def plain_error(error: Exception) -> str:
    """``ConnectionError`` as people say it."""
    name = type(error).__name__
    words = {"ConnectionError": "connection refused", "TimeoutError": "no answer in time"}
    return words.get(name, name)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def current_hub() -> Hub:
    """The hub of this process's event loop; made on first use."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]


def use_hub(hub: Hub) -> None:
    """Put another hub in this event loop's place (tests)."""
    _hubs[asyncio.get_running_loop()] = hub
