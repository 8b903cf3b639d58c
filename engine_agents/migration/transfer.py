"""How KV blocks travel: a port that moves buffers and knows nothing of engines or tensors.

A stage's blocks are fused into chunks of a few MiB, each with the CRC-32 of its
bytes. :class:`ZmqTransfer` works everywhere. Another way (memory shared on one
host) is another :class:`KvTransfer`; ``Chunk.place`` then says where the bytes lie.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from zlib import crc32

from engine_agents import failpoints
from engine_agents.messages import Chunk, Message

CHUNK_BYTES = 4 * 2**20


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


class BulkLink(Protocol):
    """What a transfer needs of a connection; see ``PeerConnection``."""

    async def send_bulk(self, message: Message, frame: bytes) -> None: ...


class KvTransfer(Protocol):
    """Sends the chunks of one stage, in order; returns once all are handed over."""

    async def send(
        self, link: BulkLink, migration_id: str, stage: int, parts: list[Span], read: Callable[[Span], bytes]
    ) -> int:
        """``read`` is called off the event loop, once per part. Returns the bytes sent."""


class ZmqTransfer:
    """Each chunk is a message and a raw frame on the peer connection."""

    async def send(
        self, link: BulkLink, migration_id: str, stage: int, parts: list[Span], read: Callable[[Span], bytes]
    ) -> int:
        sent = 0
        async for chunk, data in _chunks(migration_id, stage, parts, read):
            await link.send_bulk(chunk, data)
            sent += len(data)
        return sent


def opened(chunk: Chunk, frame: memoryview | None) -> memoryview:
    """The bytes of a chunk that arrived, checked. Raises :class:`DamagedChunkError`. Off the event loop."""
    if chunk.place:
        raise DamagedChunkError(f"this agent cannot reach {chunk.place!r}")
    if frame is None:
        raise DamagedChunkError("the chunk came without its bytes")
    check(frame, chunk.crc32)
    return frame


def check(data: bytes | memoryview, expected_crc32: int) -> None:
    """Raises :class:`DamagedChunkError` when the sum is another one."""
    if crc32(data) != expected_crc32:
        raise DamagedChunkError(f"checksum mismatch over {len(data)} bytes")


async def _chunks(
    migration_id: str, stage: int, parts: list[Span], read: Callable[[Span], bytes]
) -> AsyncIterator[tuple[Chunk, bytes]]:
    for index, part in enumerate(parts):
        data, checksum = await asyncio.to_thread(_read_and_sum, read, part)
        yield (
            Chunk(
                migration_id=migration_id,
                stage=stage,
                first_block=part.first_block,
                blocks=part.blocks,
                crc32=checksum,
                last=index == len(parts) - 1,
            ),
            failpoints.altered("transfer.chunk", data),
        )


def _read_and_sum(read: Callable[[Span], bytes], part: Span) -> tuple[bytes, int]:
    data = read(part)
    return data, crc32(data)
