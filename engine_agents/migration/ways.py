"""Which way KV blocks take between two agents: what a source offers, what a destination accepts.

An offer is a name and what the destination needs to use it. ``shm`` is an arena on
the same host; ``nixl`` the same arena, read over the network by NIXL. A destination
that can use none answers with the empty way: the bytes travel with the messages.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from engine_agents import failpoints
from engine_agents.migration.arena import Arena, ArenaAddress, MappedArena, UnreachableArenaError
from engine_agents.migration.nixl_link import NixlLink, NixlOffer, NixlUnavailableError
from engine_agents.migration.transfer import (
    CHUNK_BYTES,
    Buffer,
    BulkLink,
    DamagedChunkError,
    KvTransfer,
    Pace,
    Stage,
    ZmqTransfer,
    copy_part,
    framed,
)

logger = logging.getLogger(__name__)

SHM, NIXL, WITH_MESSAGES = "shm", "nixl", ""
CHOICES = {"auto": (SHM, NIXL), "shm": (SHM,), "nixl": (NIXL,), "zmq": ()}
SLOTS = 4
TAIL_BLOCKS = 2
"""What COMMIT brings at most as a rule: a full block and one that is not."""
KNOWN_ARENAS = 64
"""Of other agents, kept mapped."""

Open = Callable[[str, Buffer | None], memoryview]
"""``(place, frame)`` of a message -> its bytes. Raises :class:`DamagedChunkError`. Off the event loop."""


class Ways:
    """One agent's ways, to others and from others. Used on its event loop."""

    def __init__(self, choice: str, pace: Pace, *, name: str = "") -> None:
        """``choice`` is a key of :data:`CHOICES`. Raises ``ValueError`` for one that cannot be."""
        if choice not in CHOICES:
            raise ValueError(f"transfer: {choice!r} is unknown; known: {', '.join(CHOICES)}")
        self._allowed = CHOICES[choice]
        self._pace = pace
        self._name = name
        self._arena: Arena | None = None
        self._mapped: OrderedDict[bytes, MappedArena] = OrderedDict()
        self._nixl = self._try_nixl(must=choice == "nixl")

    def _try_nixl(self, must: bool) -> NixlLink | None:
        if NIXL not in self._allowed:
            return None
        try:
            return NixlLink(self._name)
        except NixlUnavailableError as error:
            if must:
                raise ValueError(f"transfer: nixl: {error}") from error
            return None

    # ---- as a source

    def offers(self, block_bytes: int) -> dict[str, bytes]:
        """What is said in RESERVE."""
        if not self._allowed:
            return {}
        arena = self._own_arena(block_bytes)
        if arena is None:
            return {}
        offers = {SHM: msgspec.msgpack.encode(arena.address)} if SHM in self._allowed else {}
        if self._nixl is not None:
            offers[NIXL] = msgspec.msgpack.encode(self._nixl.offer(arena))
        return offers

    def transfer(self, way: str) -> KvTransfer:
        """The source's side of the way that the destination accepted."""
        if way == WITH_MESSAGES or self._arena is None:
            return ZmqTransfer(self._pace)
        return ArenaTransfer(self._arena, self._pace)

    def _own_arena(self, block_bytes: int) -> Arena | None:
        if self._arena is None:
            try:
                self._arena = Arena(max(CHUNK_BYTES, TAIL_BLOCKS * block_bytes), SLOTS)
            except OSError as error:
                logger.warning("no memory to share, blocks travel with the messages: %s", error)
                self._allowed = ()
        return self._arena

    # ---- as a destination

    def accept(self, offers: dict[str, bytes]) -> tuple[str, Open]:
        """The first offer that works here, and how to open what comes that way."""
        for way in self._allowed:
            if way in offers:
                try:
                    return way, self._opener(way, offers[way])
                except (UnreachableArenaError, NixlUnavailableError, msgspec.MsgspecError) as error:
                    logger.info("not by %s: %s", way, error)
        return WITH_MESSAGES, _with_messages

    def _opener(self, way: str, offer: bytes) -> Open:
        if way == SHM:
            arena = self._map(offer)
            return lambda place, frame: _in_arena(arena.slot, place) if place else framed(frame)
        if self._nixl is None:
            raise NixlUnavailableError("it is not used here")
        read = self._nixl.reader(msgspec.msgpack.decode(offer, type=NixlOffer))
        return lambda place, frame: read(place) if place else framed(frame)

    def _map(self, offer: bytes) -> MappedArena:
        known = self._mapped.pop(offer, None)
        arena = known or MappedArena(msgspec.msgpack.decode(offer, type=ArenaAddress))
        self._mapped[offer] = arena
        while len(self._mapped) > KNOWN_ARENAS:
            # Not closed: a slot of it may still be read. It goes when nobody has it any more.
            self._mapped.popitem(last=False)
        return arena

    def close(self) -> None:
        """After the last migration."""
        if self._nixl is not None:
            self._nixl.close()
        if self._arena is not None:
            self._arena.close()


class ArenaTransfer:
    """Chunks are laid into slots of the arena; a message says in which."""

    def __init__(self, arena: Arena, pace: Pace) -> None:
        self._arena = arena
        self._pace = pace
        self._laid: set[int] = set()

    async def send(self, link: BulkLink, stage: Stage) -> int:
        sent = 0
        for index, part in enumerate(stage.parts):
            slot = await self._arena.take()
            self._laid.add(slot)
            view = self._arena.slot(slot, part.blocks * stage.block_bytes)
            sum_ = await copy_part(self._pace, stage, part, view)
            length = _damage(view) if failpoints.armed("transfer.chunk") else len(view)
            await link.send_bulk(stage.chunk(index, sum_, f"{slot}:{length}"), None)
            stage.progressed()
            sent += len(view)
        return sent

    def place_tail(self, tail: Buffer) -> str:
        if len(tail) > self._arena.address.slot_bytes:
            return ""
        slot = self._arena.try_take()
        if slot is None:
            return ""
        self._laid.add(slot)
        self._arena.slot(slot, len(tail))[:] = tail
        return f"{slot}:{len(tail)}"

    def taken(self, place: str) -> None:
        slot = int(place.partition(":")[0])
        if slot in self._laid:
            self._laid.discard(slot)
            self._arena.give_back([slot])

    def all_taken(self) -> None:
        laid, self._laid = sorted(self._laid), set()
        self._arena.give_back(laid)

    def close(self) -> None:
        """A destination that still reads finds other bytes there; it can only be one that was aborted."""
        self.all_taken()


def _damage(view: memoryview) -> int:
    """For tests: what was laid down is changed after its checksum; returns the length to say."""
    changed = failpoints.altered("transfer.chunk", bytes(view))
    view[: len(changed)] = changed
    return len(changed)


def _in_arena(slot: Callable[[int, int], memoryview], place: str) -> memoryview:
    try:
        number, length = map(int, place.split(":"))
        return slot(number, length)
    except ValueError as error:
        raise DamagedChunkError(f"nothing lies at {place!r}: {error}") from error


def _with_messages(place: str, frame: Buffer | None) -> memoryview:
    if place:
        raise DamagedChunkError(f"this agent cannot reach {place!r}")
    return framed(frame)
