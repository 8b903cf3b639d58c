"""Chunks: how a stage is cut, and that damage is noticed."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import hypothesis.strategies as st
import pytest
from hypothesis import given

from engine_agents.messages import Chunk, Message
from engine_agents.migration.transfer import DamagedChunkError, Span, ZmqTransfer, opened, spans


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 10**7), st.integers(1, 10**8))
def test_chunks_cover_every_block_once_and_keep_the_limit(first, blocks, block_bytes, chunk_bytes):
    cut = list(spans(first, blocks, block_bytes, chunk_bytes))
    covered = [block for span in cut for block in range(span.first_block, span.first_block + span.blocks)]
    assert covered == list(range(first, first + blocks))
    assert all(span.blocks == 1 or span.blocks * block_bytes <= chunk_bytes for span in cut)


class Recording:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, bytes]] = []

    async def send_bulk(self, message: Message, frame: bytes) -> None:
        self.sent.append((message, frame))


async def test_only_the_last_chunk_of_a_stage_says_so_and_every_one_opens():
    link, parts = Recording(), [Span(0, 2), Span(2, 2), Span(4, 1)]

    def read(span: Span) -> bytes:
        return bytes([span.first_block]) * 10 * span.blocks

    assert await ZmqTransfer().send(link, "m", 3, parts, read) == 50
    assert [chunk.last for chunk, _ in link.sent] == [False, False, True]
    assert {chunk.stage for chunk, _ in link.sent} == {3}
    for (chunk, frame), part in zip(link.sent, parts, strict=True):
        assert bytes(opened(chunk, memoryview(frame))) == read(part)


@pytest.mark.parametrize(
    ("frame", "place", "sentence"),
    [
        (b"other bytes", "", "checksum mismatch"),
        (b"good byte", "", "checksum mismatch"),
        (None, "", "without its bytes"),
        (b"good bytes", "shm:/etc/passwd", "cannot reach"),
    ],
)
def test_damage_is_noticed(frame, place, sentence):
    chunk = Chunk(migration_id="m", stage=0, first_block=0, blocks=1, crc32=crc32(b"good bytes"), place=place)
    with pytest.raises(DamagedChunkError, match=sentence):
        opened(chunk, memoryview(frame) if frame is not None else None)
