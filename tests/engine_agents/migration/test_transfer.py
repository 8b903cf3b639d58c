"""Chunks: how a stage is cut, which way its bytes go, and that damage is noticed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from engine_agents.messages import Message
from engine_agents.migration.arena import Arena, ArenaAddress, MappedArena, UnreachableArenaError
from engine_agents.migration.transfer import (
    LONGEST_REST_S,
    Buffer,
    DamagedChunkError,
    KvTransfer,
    Pace,
    Span,
    Stage,
    ZmqTransfer,
    check,
    checksum,
    spans,
)
from engine_agents.migration.ways import ArenaTransfer, Ways
from tests.engine_agents.harness import eventually

BLOCK_BYTES = 10


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 10**7), st.integers(1, 10**8))
def test_chunks_cover_every_block_once_and_keep_the_limit(first, blocks, block_bytes, chunk_bytes):
    cut = list(spans(first, blocks, block_bytes, chunk_bytes))
    covered = [block for span in cut for block in range(span.first_block, span.first_block + span.blocks)]
    assert covered == list(range(first, first + blocks))
    assert all(span.blocks == 1 or span.blocks * block_bytes <= chunk_bytes for span in cut)


class Recording:
    """A link that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, Buffer | None]] = []

    async def send_bulk(self, message: Message, frame: Buffer | None) -> None:
        self.sent.append((message, frame))


def content(span: Span) -> bytes:
    return bytes([span.first_block + 1]) * BLOCK_BYTES * span.blocks


def fill(span: Span, target: memoryview) -> None:
    target[:] = content(span)


def stage(*parts: Span) -> Stage:
    return Stage("m", 3, list(parts), BLOCK_BYTES, fill)


PARTS = (Span(0, 2), Span(2, 2), Span(4, 1))


@pytest.mark.parametrize("choice", ["auto", "zmq"])
async def test_only_the_last_chunk_of_a_stage_says_so_and_every_one_opens(choice):
    link, source, destination = Recording(), Ways("auto", Pace()), Ways(choice, Pace())
    way, open_bytes = destination.accept(source.offers(BLOCK_BYTES))
    transfer = source.transfer(way)
    assert way == {"auto": "shm", "zmq": ""}[choice]
    assert await transfer.send(link, stage(*PARTS)) == 50
    assert [chunk.last for chunk, _ in link.sent] == [False, False, True]
    assert {chunk.stage for chunk, _ in link.sent} == {3}
    for (chunk, frame), part in zip(link.sent, PARTS, strict=True):
        data = open_bytes(chunk.place, frame)
        check(data, chunk.checksum)
        assert bytes(data) == content(part)
        assert (frame is None) == bool(chunk.place)
    transfer.close()
    source.close()


async def test_a_slot_is_used_again_only_when_its_bytes_were_taken():
    arena, link = Arena(BLOCK_BYTES, slots=2), Recording()
    transfer: KvTransfer = ArenaTransfer(arena, Pace())
    sending = asyncio.create_task(transfer.send(link, stage(*PARTS)))
    await eventually(lambda: len(link.sent) == 2, "two chunks")
    await asyncio.sleep(0.01)
    assert len(link.sent) == 2, "the third chunk must wait for a slot"
    transfer.taken(link.sent[0][0].place)
    await asyncio.wait_for(sending, 30)
    assert {chunk.place.partition(":")[0] for chunk, _ in link.sent} == {"0", "1"}
    transfer.close()
    assert {arena.try_take(), arena.try_take()} == {0, 1}
    arena.close()


async def test_an_arena_of_somebody_else_is_not_believed():
    arena = Arena(BLOCK_BYTES, slots=2)
    own = arena.address
    with pytest.raises(UnreachableArenaError, match="another one"):
        MappedArena(msgspec.structs.replace(own, token=b"x" * 32))
    with pytest.raises(UnreachableArenaError, match=r"no arena|cannot be mapped"):
        MappedArena(msgspec.structs.replace(own, fd=0))
    with pytest.raises(UnreachableArenaError, match="cannot be mapped"):
        MappedArena(msgspec.structs.replace(own, pid=2**22 + 1))
    with pytest.raises(UnreachableArenaError, match="size"):
        MappedArena(msgspec.structs.replace(own, slots=3))
    with pytest.raises(UnreachableArenaError, match="none"):
        MappedArena(ArenaAddress(pid=1, fd=1, slot_bytes=2**40, slots=2**10, token=b""))
    arena.close()


async def test_what_cannot_be_used_travels_with_the_messages():
    destination = Ways("auto", Pace())
    offers = {"shm": b"nonsense", "pigeon": b""}
    assert destination.accept(offers)[0] == ""
    with pytest.raises(ValueError, match="transfer: 'pigeon' is unknown; known: auto, shm, nixl, zmq"):
        Ways("pigeon", Pace())


@pytest.mark.parametrize(
    ("place", "sentence"),
    [("9:10", "nothing lies at"), ("0:99999999", "nothing lies at"), ("-1:5", "nothing"), ("etc", "nothing")],
)
async def test_a_place_outside_of_the_arena_is_refused(place, sentence):
    source = Ways("shm", Pace())
    _, open_bytes = Ways("shm", Pace()).accept(source.offers(BLOCK_BYTES))
    with pytest.raises(DamagedChunkError, match=sentence):
        open_bytes(place, None)
    source.close()


def test_damage_is_noticed():
    _, open_bytes = Ways("zmq", Pace()).accept({})
    with pytest.raises(DamagedChunkError, match="checksum mismatch over 9 bytes"):
        check(b"good byte", checksum(b"good bytes"))
    with pytest.raises(DamagedChunkError, match="without its bytes"):
        open_bytes("", None)
    with pytest.raises(DamagedChunkError, match="cannot reach"):
        open_bytes("0:10", None)


def test_an_arena_leaves_nothing_behind():
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    arena = Arena(BLOCK_BYTES, slots=2)
    mapped = MappedArena(arena.address)
    mapped.close()
    arena.close()
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


@pytest.mark.parametrize(
    ("pace", "spent_s", "size", "rest_s"),
    [
        (Pace(), 1.0, 10, 0.0),
        (Pace(0.25), 0.1, 10, 0.3),
        (Pace(0.05), 10.0, 10, LONGEST_REST_S),
        (Pace(bytes_per_s=100.0), 0.5, 200, 1.5),
    ],
)
def test_copying_rests_so_that_decoding_keeps_its_share(pace, spent_s, size, rest_s):
    assert pace.rest_s(spent_s, size) == pytest.approx(rest_s)


def test_what_is_urgent_rests_by_a_share_of_its_own_and_keeps_the_limit():
    pace = Pace(0.05, 0.5, bytes_per_s=100.0)
    assert pace.rest_s(0.01, 1, urgent=True) == pytest.approx(0.01)
    assert pace.rest_s(0.01, 1) == pytest.approx(0.19)
    assert pace.rest_s(0.01, 100, urgent=True) == pytest.approx(0.99)


def test_a_pace_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="copy_share: must be above 0"):
        Pace(0.0)
    with pytest.raises(ValueError, match="copy_bytes_per_s: must not be negative"):
        Pace(1.0, 1.0, -1.0)
    with pytest.raises(ValueError, match="urgent_copy_share: must be above 0 and at most 1, is 2"):
        Pace(1.0, 2)


async def test_all_migrations_of_an_agent_take_turns():
    pace, order = Pace(), list[str]()
    links = {"m1": Recording(), "m2": Recording()}

    def note(name: str) -> Any:
        return lambda span, target: order.append(name)

    await asyncio.gather(
        *(
            ZmqTransfer(pace).send(link, Stage(name, 0, [Span(i, 1) for i in range(4)], 10, note(name)))
            for name, link in links.items()
        )
    )
    assert order == ["m1", "m2"] * 4


async def test_nixl_reads_what_lies_in_the_arena():
    pytest.importorskip("nixl._api", reason="nixl is not installed (an extra for GPU hosts)")
    link, source, destination = Recording(), Ways("nixl", Pace(), name="a"), Ways("nixl", Pace(), name="b")
    way, open_bytes = destination.accept(source.offers(BLOCK_BYTES))
    transfer = source.transfer(way)
    assert way == "nixl"
    await transfer.send(link, stage(*PARTS))
    for (chunk, frame), part in zip(link.sent, PARTS, strict=True):
        data = await asyncio.to_thread(open_bytes, chunk.place, frame)
        check(data, chunk.checksum)
        assert bytes(data) == content(part)
    with pytest.raises(DamagedChunkError, match="outside"):
        open_bytes("8:1", None)
    transfer.close()
    destination.close()
    source.close()


async def test_nixl_that_is_asked_for_and_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "nixl._api", None)
    with pytest.raises(ValueError, match=r"transfer: nixl: it is not installed here .*: pip install nixl"):
        Ways("nixl", Pace())
    assert set(Ways("auto", Pace()).offers(BLOCK_BYTES)) == {"shm"}
