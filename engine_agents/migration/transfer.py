"""How KV blocks travel: ports that move buffers and know nothing of engines or tensors.

A stage's blocks are fused into chunks of a few MiB, each with a checksum of its
bytes. The source *offers* ways in its first RESERVE, the destination picks the
first that it can use (:mod:`engine_agents.migration.ways`): memory shared on one
host, NIXL where it is installed, and the ZMQ link itself, which works everywhere.

Copying must never starve decoding: all migrations of an agent share one
:class:`Pace`, which copies one chunk at a time, in turn, and rests in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from xxhash import xxh3_64_intdigest

from engine_agents import failpoints
from engine_agents.messages import Chunk, Message

CHUNK_BYTES = 4 * 2**20
LONGEST_REST_S = 0.5
"""A chunk that took long because everything stood still must not hold up all others for minutes."""

Buffer = bytes | bytearray | memoryview
Fill = Callable[["Span", memoryview], None]
"""Writes the bytes of a span into a buffer of exactly their length; called off the event loop."""


class DamagedChunkError(Exception):
    """The bytes that arrived are not those that were sent."""


@dataclass(frozen=True, slots=True)
class Span:
    """``blocks`` blocks of a request from ``first_block`` on."""

    first_block: int
    blocks: int


def spans(first_block: int, blocks: int, block_bytes: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[Span]:
    """Cut a stage into chunks of at most ``chunk_bytes``, at least one block each."""
    per_chunk = max(1, chunk_bytes // max(1, block_bytes))
    for first in range(first_block, first_block + blocks, per_chunk):
        yield Span(first, min(per_chunk, first_block + blocks - first))


def checksum(data: Buffer) -> int:
    """XXH3, 64 bits: finds what a CRC finds, at the speed of memory."""
    return int(xxh3_64_intdigest(data))


def check(data: Buffer, expected: int) -> None:
    """Raises :class:`DamagedChunkError` when the sum is another one."""
    if checksum(data) != expected:
        raise DamagedChunkError(f"checksum mismatch over {len(data)} bytes")


class Pace:
    """One chunk at a time, in turn for all, and a rest after each.

    ``copy_share`` is the part of the time that may be spent copying while anything
    is left to copy, ``urgent_share`` that of what is in a hurry or in nobody's way,
    ``bytes_per_s`` a limit on top (0: none).
    """

    def __init__(self, copy_share: float = 1.0, urgent_share: float = 1.0, bytes_per_s: float = 0.0) -> None:
        """Raises ``ValueError`` for a share outside (0, 1] or a negative limit."""
        for name, share in (("copy_share", copy_share), ("urgent_copy_share", urgent_share)):
            if not 0.0 < share <= 1.0:
                raise ValueError(f"{name}: must be above 0 and at most 1, is {share}")
        if bytes_per_s < 0:
            raise ValueError(f"copy_bytes_per_s: must not be negative, is {bytes_per_s}")
        self._shares = {False: copy_share, True: urgent_share}
        self._bytes_per_s = bytes_per_s
        self._turn = asyncio.Lock()
        self._free_at = 0.0

    def rest_s(self, spent_s: float, size: int, urgent: bool = False) -> float:
        """How long nothing may be copied after a chunk that took ``spent_s``."""
        for_share = min(LONGEST_REST_S, spent_s * (1.0 / self._shares[urgent] - 1.0))
        for_rate = size / self._bytes_per_s - spent_s if self._bytes_per_s else 0.0
        return max(0.0, for_share, for_rate)

    async def copy(self, work: Callable[[], int], size: int, urgent: bool = False) -> int:
        """Do ``work`` off the event loop when it is this chunk's turn; returns its result."""
        async with self._turn:
            wait_s = self._free_at - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            began = time.monotonic()
            result = await _to_its_end(work)
            ended = time.monotonic()
            self._free_at = ended + self.rest_s(ended - began, size, urgent)
        return result


async def _to_its_end(work: Callable[[], int]) -> int:
    """Also when cancelled: nobody may reuse a buffer that a thread still writes to."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait([working])
        raise


class BulkLink(Protocol):
    """What a transfer needs of a connection; see ``PeerConnection``."""

    async def send_bulk(self, message: Message, frame: Buffer | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage sends."""

    migration_id: str
    number: int
    parts: list[Span]
    block_bytes: int
    fill: Fill
    urgent: bool = False
    """Whether it may copy more of the time than others."""
    progressed: Callable[[], None] = lambda: None
    """Called after every chunk."""

    def chunk(self, index: int, sum_: int, place: str = "") -> Chunk:
        part = self.parts[index]
        return Chunk(
            migration_id=self.migration_id,
            stage=self.number,
            first_block=part.first_block,
            blocks=part.blocks,
            checksum=sum_,
            last=index == len(self.parts) - 1,
            place=place,
        )


class KvTransfer(Protocol):
    """Source side of one migration's copying."""

    async def send(self, link: BulkLink, stage: Stage) -> int:
        """Sends the chunks of one stage, in order; returns once all are handed over, with their bytes."""

    def place_tail(self, tail: Buffer) -> str:
        """Lay the tail of COMMIT where the destination finds it; "" if it must travel with the message."""

    def taken(self, place: str) -> None:
        """The destination has read what lay there."""

    def all_taken(self) -> None:
        """The destination has read whatever lay anywhere."""

    def close(self) -> None:
        """The migration is over."""


class ZmqTransfer:
    """Each chunk is a message and a raw frame on the peer connection."""

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace or Pace()

    async def send(self, link: BulkLink, stage: Stage) -> int:
        sent = 0
        for index, part in enumerate(stage.parts):
            # Not zeroed first, unlike a bytearray; a new one each time, as ZMQ sends it without a copy.
            buffer = np.empty(part.blocks * stage.block_bytes, dtype=np.uint8).data
            sum_ = await copy_part(self._pace, stage, part, buffer)
            frame: Buffer = buffer
            if failpoints.armed("transfer.chunk"):
                frame = failpoints.altered("transfer.chunk", bytes(buffer))
            await link.send_bulk(stage.chunk(index, sum_), frame)
            stage.progressed()
            sent += len(buffer)
        return sent

    def place_tail(self, tail: Buffer) -> str:
        return ""

    def taken(self, place: str) -> None:
        """Nothing lies anywhere."""

    def all_taken(self) -> None:
        """Nothing lies anywhere."""

    def close(self) -> None:
        """Nothing to give back."""


async def copy_part(pace: Pace, stage: Stage, part: Span, target: memoryview) -> int:
    """Lay down the blocks of ``part`` when it is their turn; returns their checksum."""

    def fill_and_sum() -> int:
        stage.fill(part, target)
        return checksum(target)

    return await pace.copy(fill_and_sum, len(target), stage.urgent)


def framed(frame: Buffer | None) -> memoryview:
    """The raw frame of a chunk that must have one. Raises :class:`DamagedChunkError`."""
    if frame is None:
        raise DamagedChunkError("it came without its bytes")
    return memoryview(frame)
