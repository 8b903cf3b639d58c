"""Migrations that end early: the source goes on as if nothing had been, and says why."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine_agents.engines.port import MoveImpossible
from engine_agents.migration.transfer import ZmqTransfer
from engine_agents.serve import AgentServer
from tests.engine_agents.harness import eventually, paced, running_agent, swap
from tests.engine_agents.migration.fleet import (
    PROMPT,
    SEEDED,
    begin,
    command,
    fleet,
    on_hold,
    stays,
)


async def test_no_room_at_the_destination():
    async with fleet(destination={"kv_memory_bytes": 16 * 1024 * 4}) as world:
        await begin(world)
        await world.move("r")
        await stays(world, "no room")


async def test_draining_destination():
    async with fleet() as world:
        await begin(world)
        world.destination.set_accepting(False, lease_epoch=1)
        await world.move("r")
        await stays(world, "draining")


async def test_incompatible_destination():
    async with fleet(destination={"engine_args": {"vocabulary": 255}}) as world:
        await begin(world)
        await world.move("r")
        await stays(world, "incompatible")


async def test_no_slot_at_the_destination():
    async with fleet(destination={"migration_slots": 0}) as world:
        await begin(world)
        await world.move("r")
        await stays(world, "no free migration slot at the destination")


async def test_the_gateway_says_no():
    async with fleet() as world:
        world.gateway.grants = False
        await begin(world)
        await world.move("r")
        await stays(world, "its gateway: not now")


async def test_a_gateway_that_is_not_connected_to_the_destination():
    async with running_agent("c") as stranger, fleet() as world:
        await begin(world)
        move = command(stranger, request_id="r")
        assert (await world.source.migrate_out(move)).accepted
        await stays(world, "is not connected here")


async def test_nobody_at_the_endpoint():
    async with fleet() as world:
        await begin(world)
        await world.move("r", destination_peer_endpoint="tcp://127.0.0.1:9")
        await stays(world, "the destination cannot be reached")


async def test_the_destination_stops_answering():
    async with fleet(stage_timeout_s=0.5) as world:
        await begin(world, max_tokens=700)

        async def deaf(*_: Any) -> None:
            return

        swap(world.destination.desk, "from_source", deaf)
        await world.move("r")
        await stays(world, "timed out while reserving")


async def test_the_destination_dies_in_the_middle_of_a_stage():
    async with running_agent("c") as dying, fleet() as world:
        await world.gateway.connect(dying.data_endpoint)
        await begin(world, max_tokens=1500)
        stage_began = on_first_write(dying)
        reply = dying.reply
        swap(dying, "reply", lambda to, message: type(message).__name__ == "Reserved" and reply(to, message))
        assert (await world.source.migrate_out(command(dying, request_id="r"))).accepted
        await asyncio.wait_for(stage_began.wait(), 30)
        await dying._peers.close()
        await stays(world, "link lost")


def on_first_write(agent: AgentServer) -> asyncio.Event:
    """Notice the first block that arrives; it is not taken."""
    seen = asyncio.Event()
    loop = asyncio.get_running_loop()

    def write(*_: Any) -> None:
        loop.call_soon_threadsafe(seen.set)
        raise MoveImpossible("held up by a test")

    swap(paced(agent), "write", write)
    return seen


@pytest.mark.parametrize("way", ["shm", "zmq"])
async def test_a_damaged_chunk_is_noticed(way):
    async with fleet(transfer=way, failpoints="permitted") as world:
        await begin(world)
        world.source.set_failpoints("transfer.chunk:corrupt@1")
        await world.move("r")
        await stays(world, "checksum mismatch")
        world.source.set_failpoints("")
        assert world.destination.counters["damaged_chunks"] == 1


async def test_a_damaged_commit_is_refused_and_the_source_resumes():
    async with fleet() as world:
        await begin(world, **SEEDED)
        swap(paced(world.destination), "adopt", _cannot_adopt)
        await world.move("r")
        outcome = await stays(world, "not adopted", **SEEDED)
        assert outcome.downtime_ms > 0


def _cannot_adopt(*_: Any) -> Any:
    raise MoveImpossible("not adopted: held up by a test")


async def test_a_pin_is_given_back_once_when_the_request_is_gone_after_a_stage():
    async with fleet() as world:
        await begin(world, max_tokens=2000)
        engine, pins, unpinned = paced(world.source), [0], list[Any]()
        pin, unpin = engine.pin, engine.unpin

        def pin_once(*args: Any) -> Any:
            pins[0] += 1
            return pin(*args) if pins[0] == 1 else pin("nobody#1", 0)

        def counted(pinned: Any) -> Any:
            unpinned.append(pinned)
            return unpin(pinned)

        swap(engine, "pin", pin_once)
        swap(engine, "unpin", counted)
        await world.move("r")
        outcome = await world.settled()
        assert outcome.state == "aborted", outcome
        assert len(unpinned) == 1
        await world.gateway.abort("a", "r#1")
        await world.all_back()


async def test_it_finishes_at_the_source_while_it_moves():
    async with fleet() as world:
        await begin(world, max_tokens=60)
        freeze = paced(world.source).freeze

        def late(*args: Any) -> Any:
            # Between the last stage and the freeze the engine makes the last token.
            while paced(world.source).load().running:
                pass
            return freeze(*args)

        swap(paced(world.source), "freeze", late)
        await world.move("r")
        await stays(world, "")


async def test_its_client_leaves_while_it_moves():
    async with fleet() as world:
        name = await begin(world, max_tokens=3000)
        held = on_hold(world.destination)
        await world.move("r")
        await asyncio.wait_for(held.wait(), 30)
        await world.gateway.abort("a", name)
        outcome = await world.settled()
        assert (outcome.state, outcome.reason) == ("aborted", "aborted by its gateway")
        await world.all_back()


async def test_it_makes_tokens_faster_than_they_can_be_copied():
    async with fleet(max_stages=2) as world:
        await begin(world, max_tokens=600)

        class Slow(ZmqTransfer):
            async def send(self, *args: Any) -> int:
                progress = len(world.gateway.tokens["r"])
                await world.gateway.until_tokens("r", progress + 60)
                return await super().send(*args)

        swap(world.source.ways, "transfer", lambda way: Slow())
        swap(world.source.ways, "offers", lambda block_bytes: {})
        await world.move("r")
        await stays(world, "not caught up after 2 stages")


async def test_its_gateway_dies_while_it_moves():
    async with fleet(gateway_timeout_s=1.0) as world:
        await begin(world, max_tokens=1_000_000)
        held = on_hold(world.destination)
        await world.move("r")
        await asyncio.wait_for(held.wait(), 30)
        world.gateway.fall_silent()
        await world.all_back()


async def test_the_source_dies_and_the_reservation_expires():
    async with fleet(reservation_ttl_s=0.5) as world:
        await begin(world, max_tokens=500)
        send = world.source.connection(world.destination.peer_endpoint)
        bulk = asyncio.Event()

        async def silence(*_: Any) -> None:
            bulk.set()
            await asyncio.sleep(3600)

        swap(send, "send_bulk", silence)
        swap(send, "post", lambda _: None)
        await world.move("r")
        await asyncio.wait_for(bulk.wait(), 30)
        assert world.destination.engine.load().reserved_blocks > 0
        await eventually(
            lambda: world.destination.engine.load().reserved_blocks == 0, "the reservation to expire"
        )
        await stays(world, "reservation expired")


async def test_a_recovery_at_the_destination_overtakes_the_move():
    """Its gateway gave up on the source and sent it, under a newer number, where it was going anyway."""
    async with fleet() as world:
        await begin(world, max_tokens=2000, **SEEDED)
        held = on_hold(world.destination)
        await world.move("r")
        await asyncio.wait_for(held.wait(), 30)
        prior = world.gateway.text("r")
        await world.gateway.add(
            "b", "r", PROMPT, dispatch=3, prior=prior, max_tokens=len(prior) + 40, **SEEDED
        )
        outcome = await world.settled()
        assert (outcome.state, outcome.reason) == ("aborted", "destination: stale_dispatch")
        await world.gateway.until(lambda: "r" in world.gateway.finished)
        await world.gateway.abort("a", "r#1")
        await world.all_back()
