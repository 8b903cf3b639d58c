"""Requests that move between two agents over real sockets, and everything that can go wrong.

The paced engine computes each token from the KV it holds, so a wrong, missing or
misplaced block, a lost token or a lost draw of the sampler shows in the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from engine_agents.engines.port import MoveImpossible
from engine_agents.messages import MigrateOut, MigrationOutcome, RequestInfo
from engine_agents.migration.handshake import MoveState
from engine_agents.serve import AgentServer
from tests.engine_agents.harness import (
    BareGateway,
    eventually,
    gateway_to,
    idle,
    paced,
    running_agent,
    swap,
    undisturbed,
)

PROMPT = [(7 * i) % 251 for i in range(150)]
SEEDED: dict[str, Any] = {"temperature": 1.0, "seed": 11}


@dataclass
class Fleet:
    """Two agents, a gateway, and what the source reported."""

    source: AgentServer
    destination: AgentServer
    gateway: BareGateway
    outcomes: list[MigrationOutcome]

    @property
    def last(self) -> MigrationOutcome:
        return self.outcomes[-1]

    async def move(self, request_id: str = "", **changes: Any) -> None:
        answer = await self.source.migrate_out(command(self.destination, request_id=request_id, **changes))
        assert answer.accepted, answer.reason

    async def settled(self) -> MigrationOutcome:
        """The final outcome of the latest migration."""
        await eventually(lambda: self.outcomes and self.last.state in ("done", "aborted"), "an outcome")
        return self.last

    async def all_back(self) -> None:
        await eventually(lambda: idle(self.source, self.destination), "all blocks to come back")
        for agent in (self.source, self.destination):
            batch = paced(agent)._batch
            assert batch.memory.free_blocks == batch.memory.geometry.blocks, (
                "a pinned or reserved block leaked"
            )
            assert not any(batch.memory._references)
            assert len(agent.live) == 0


def command(destination: AgentServer, **changes: Any) -> MigrateOut:
    defaults: dict[str, Any] = {
        "migration_id": "m1",
        "destination_instance_id": destination.config.instance_id,
        "destination_peer_endpoint": destination.peer_endpoint,
        "rule": "manual",
        "lease_epoch": 1,
        "budget_tokens": 100_000,
    }
    return MigrateOut(**(defaults | changes))


@asynccontextmanager
async def fleet(
    source: dict[str, Any] | None = None, destination: dict[str, Any] | None = None, **both: Any
) -> AsyncIterator[Fleet]:
    async with (
        running_agent("a", **(both | (source or {}))) as first,
        running_agent("b", **(both | (destination or {}))) as second,
        gateway_to(first, second) as gateway,
    ):
        outcomes: list[MigrationOutcome] = []
        for agent in (first, second):
            swap(agent, "report", outcomes.append)
        yield Fleet(first, second, gateway, outcomes)


@pytest.mark.parametrize("sampling", [{}, SEEDED, {"temperature": 0.7}], ids=["greedy", "seeded", "unseeded"])
async def test_a_moved_request_makes_the_same_tokens(sampling):
    expected = undisturbed("r", 400, PROMPT, **sampling)
    async with fleet() as world:
        await world.gateway.add("a", "r", PROMPT, max_tokens=400, **sampling)
        await world.gateway.until_tokens("r", 40)
        await world.move("r")
        outcome = await world.settled()
        await world.gateway.until_finished("r")
        assert outcome.state == "done", outcome
        assert world.gateway.text("r") == expected
        assert not world.gateway.duplicates
        assert 40 <= world.gateway.adopted[0].start < 400
        assert world.gateway.adopted[0].output_token_ids == expected[: world.gateway.adopted[0].start]
        await world.all_back()


async def test_an_outcome_tells_stages_bytes_and_downtime():
    async with fleet() as world:
        await world.gateway.add("a", "r", PROMPT, max_tokens=600)
        await world.gateway.until_tokens("r", 10)
        await world.move("r")
        outcome = await world.settled()
        assert [stage.stage for stage in outcome.stages] == list(range(len(outcome.stages)))
        assert len(outcome.stages) >= 2
        assert sum(stage.blocks for stage in outcome.stages) * 16 >= outcome.tokens_moved
        assert all(stage.bytes == stage.blocks * 16 * 1024 for stage in outcome.stages)
        assert outcome.downtime_ms > 0
        assert outcome.tokens_moved >= outcome.tokens_at_start > len(PROMPT)
        assert (outcome.rule, outcome.tenant, outcome.slo_class) == ("manual", "demo", "standard")
        assert outcome.why == "asked for by an operator"
        states = [one.state for one in world.outcomes]
        assert states[0] == "reserving"
        assert "freezing" in states


async def test_long_contexts_go_in_several_chunks_and_stages_while_decoding_goes_on():
    prompt = [(3 * i) % 200 for i in range(3000)]
    slow: dict[str, Any] = {
        "kv_memory_bytes": 64 * 2**20,
        "engine_args": {"kv_bytes_per_token": 8192, "base_step_ms": 0.2},
    }
    async with fleet(**slow) as world:
        await world.gateway.add("a", "r", prompt, max_tokens=900, **SEEDED)
        await world.gateway.until_tokens("r", 1)
        await world.move("r")
        outcome = await world.settled()
        await world.gateway.until_finished("r")
        assert outcome.state == "done", outcome
        assert outcome.stages[0].bytes >= 3000 * 8192 - 16 * 8192
        assert outcome.stages[0].tokens_meanwhile > 0
        assert len(world.gateway.text("r")) == 900
        await world.all_back()


async def test_there_and_back_and_on_again():
    expected = undisturbed("r", 900, PROMPT, **SEEDED)
    async with fleet() as world:
        await world.gateway.add("a", "r", PROMPT, max_tokens=900, **SEEDED)
        here, there = world.source, world.destination
        for number in range(4):
            await world.gateway.until_tokens("r", 60 * (number + 1))
            move = command(there, migration_id=f"m{number}", request_id="r")
            assert (await here.migrate_out(move)).accepted
            assert (await world.settled()).state == "done"
            await world.gateway.until_adoptions(number + 1)
            world.outcomes.clear()
            here, there = there, here
        await world.gateway.until_finished("r")
        assert world.gateway.text("r") == expected
        assert not world.gateway.duplicates
        await world.all_back()


async def test_both_directions_at_once_and_several_requests():
    names = [f"r{i}" for i in range(8)]
    async with fleet(migration_slots=8) as world:
        for index, name in enumerate(names):
            await world.gateway.add(
                "ab"[index % 2], name, PROMPT[: 20 + 15 * index], max_tokens=500, **SEEDED
            )
        for name in names:
            await world.gateway.until_tokens(name, 5)
        out = command(world.destination, max_requests=4)
        back = command(world.source, max_requests=4, migration_id="n1")
        answers = await asyncio.gather(world.source.migrate_out(out), world.destination.migrate_out(back))
        assert [len(answer.planned) for answer in answers] == [4, 4]
        assert [plan.migration_id for plan in answers[0].planned] == ["m1", "m1.2", "m1.3", "m1.4"]
        await world.gateway.until_finished(*names)
        ends = {one.migration_id: one.state for one in world.outcomes if one.state in ("done", "aborted")}
        assert list(ends.values()) == ["done"] * 8
        assert not world.gateway.duplicates
        for index, name in enumerate(names):
            expected = undisturbed(name, 500, PROMPT[: 20 + 15 * index], **SEEDED)
            assert world.gateway.text(name) == expected
        await world.all_back()


async def test_a_request_in_the_middle_of_its_prefill_moves():
    prompt = [i % 250 for i in range(600)]
    slow_prefill = {"max_num_batched_tokens": 32, "base_step_ms": 5.0}
    async with fleet(engine_args=slow_prefill) as world:
        engine_id = await world.gateway.add("a", "r", prompt, max_tokens=30)
        await eventually(lambda: world.source.engine.load().used_blocks > 0, "prefill to begin")
        # The selection of the loop leaves prefills alone; the mechanism does not.
        swap(world.source, "requests", lambda: _as_decoding(engine_id, prompt))
        await world.move()
        outcome = await world.settled()
        await world.gateway.until_finished("r")
        assert outcome.state == "done", outcome
        assert world.gateway.text("r") == undisturbed("r", 30, prompt)
        await world.all_back()


async def _as_decoding(engine_id: str, prompt: list[int]) -> list[RequestInfo]:
    return [
        RequestInfo(
            engine_id=engine_id,
            request_id="r",
            slo_class="standard",
            tenant="demo",
            state="running",
            prompt_tokens=len(prompt),
            output_tokens=1,
            blocks=1,
            arrived_at_s=0.0,
        )
    ]


# ---- aborts: the source goes on as if nothing had been


async def stays(world: Fleet, reason: str, **sampling: Any) -> MigrationOutcome:
    """The migration is aborted for ``reason`` and request ``r`` ends at the source, whole."""
    outcome = await world.settled()
    assert outcome.state == "aborted", outcome
    assert reason in outcome.reason
    await world.gateway.until_finished("r")
    assert world.gateway.text("r") == undisturbed("r", len(world.gateway.text("r")), PROMPT, **sampling)
    assert not world.gateway.duplicates
    assert not world.gateway.adopted
    await world.all_back()
    return outcome


async def begin(world: Fleet, max_tokens: int = 300, **sampling: Any) -> str:
    name = await world.gateway.add("a", "r", PROMPT, max_tokens=max_tokens, **sampling)
    await world.gateway.until_tokens("r", 10)
    return name


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


async def test_a_damaged_chunk_is_noticed():
    async with fleet() as world:
        await begin(world)
        send = world.source.desk._transfer.send

        class Corrupting:
            async def send(self, link: Any, *rest: Any) -> int:
                class Flip:
                    async def send_bulk(self, message: Any, frame: bytes) -> None:
                        await link.send_bulk(message, bytes([frame[0] ^ 1]) + frame[1:])

                return await send(Flip(), *rest)

        world.source.desk._transfer = Corrupting()
        await world.move("r")
        await stays(world, "checksum mismatch")
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


def on_hold(agent: AgentServer) -> asyncio.Event:
    """Notice the first reservation and answer it late."""
    seen = asyncio.Event()
    session_hold = paced(agent).hold
    loop = asyncio.get_running_loop()

    def hold(*args: Any) -> Any:
        loop.call_soon(seen.set)
        paced(agent)._submit(lambda: __import__("time").sleep(0.2))
        return session_hold(*args)

    swap(paced(agent), "hold", hold)
    return seen


async def test_it_is_preempted_while_it_moves():
    async with fleet(source={"kv_memory_bytes": 16 * 1024 * 24}) as world:
        await begin(world, max_tokens=120, **SEEDED)
        held = on_hold(world.destination)
        await world.move("r")
        await asyncio.wait_for(held.wait(), 30)
        batch = paced(world.source)._batch

        def preempt() -> None:
            live = batch.live["r#1"]
            batch._preempt(live)
            world.source._intake.from_engine_preempted("r#1")

        paced(world.source)._submit(preempt)
        await stays(world, "preempted", **SEEDED)


async def test_it_makes_tokens_faster_than_they_can_be_copied():
    async with fleet(max_stages=2) as world:
        await begin(world, max_tokens=600)
        send = world.source.desk._transfer.send

        class Slow:
            async def send(self, *args: Any) -> int:
                progress = len(world.gateway.tokens["r"])
                await world.gateway.until_tokens("r", progress + 60)
                return await send(*args)

        world.source.desk._transfer = Slow()
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


# ---- doubt


async def test_a_lost_acknowledgement_is_asked_for_and_nothing_runs_twice():
    async with fleet(commit_timeout_s=0.3) as world:
        await begin(world, max_tokens=400, **SEEDED)
        lose_answers(world.destination, "Committed", 1)
        await world.move("r")
        outcome = await world.settled()
        assert outcome.state == "done", outcome
        assert "in_doubt" in [one.state for one in world.outcomes]
        await world.gateway.until_finished("r")
        assert world.gateway.text("r") == undisturbed("r", 400, PROMPT, **SEEDED)
        assert not world.gateway.duplicates
        await world.all_back()


def lose_answers(agent: AgentServer, kind: str, count: int) -> None:
    """The first ``count`` answers of a kind never reach the source."""
    reply, lost = agent.reply, [0]

    def lossy(reply_to: bytes, message: Any) -> bool:
        if type(message).__name__ in kind.split() and lost[0] < count:
            lost[0] += 1
            return False
        return reply(reply_to, message)

    swap(agent, "reply", lossy)


async def test_a_lost_commit_is_asked_for_and_the_source_resumes():
    async with fleet(commit_timeout_s=0.3) as world:
        await begin(world, max_tokens=400, **SEEDED)
        lose_commit(world.source)
        await world.move("r")
        await stays(world, "not_adopted", **SEEDED)


def lose_commit(agent: AgentServer) -> None:
    connection = agent.connection

    def lossy(endpoint: str) -> Any:
        link: Any = connection(endpoint)
        send = link.send

        async def without_commit(message: Any, *args: Any, **kwargs: Any) -> bool:
            return type(message).__name__ == "Commit" or await send(message, *args, **kwargs)

        link.send = without_commit
        return link

    swap(agent, "connection", lossy)


async def test_a_destination_that_never_answers_is_judged_by_the_gateway():
    """It adopted, and the gateway knows: the source must let go."""
    async with fleet(commit_timeout_s=0.3) as world:
        await begin(world, max_tokens=2500, **SEEDED)
        lose_answers(world.destination, "Committed DoubtAnswer", 1_000)
        await world.move("r")
        outcome = await world.settled()
        assert outcome.state == "done", outcome
        await world.gateway.until_finished("r")
        assert world.gateway.text("r") == undisturbed("r", 2500, PROMPT, **SEEDED)
        assert not world.gateway.duplicates
        await world.all_back()


async def test_the_gateway_judges_for_the_source_when_nobody_adopted():
    async with fleet(commit_timeout_s=0.3, reservation_ttl_s=1.0) as world:
        await begin(world, max_tokens=600, **SEEDED)
        lose_commit(world.source)
        lose_answers(world.destination, "DoubtAnswer AbortMove", 1_000)
        await world.move("r")
        await stays(world, "its gateway decided", **SEEDED)


async def test_in_doubt_it_stays_frozen_until_somebody_decides():
    async with fleet(commit_timeout_s=0.2) as world:
        await begin(world, max_tokens=2000, **SEEDED)
        lose_answers(world.destination, "Committed DoubtAnswer", 1_000)
        world.gateway.answer_owner = False
        await world.move("r")
        await eventually(lambda: source_state(world) is MoveState.JUDGED, "the gateway to be asked")
        made = len(world.gateway.tokens["r"])
        await world.gateway.until_tokens("r", made + 100)
        assert paced(world.source)._batch.live["r#1"].state.value == "frozen"
        world.gateway.answer_owner = True
        assert (await world.settled()).state == "done"
        await world.gateway.until_finished("r")
        assert not world.gateway.duplicates
        await world.all_back()


def source_state(world: Fleet) -> MoveState | None:
    move = next(iter(world.source.desk._outgoing.values()), None)
    return move.machine.state if move else None


# ---- commands


async def test_commands_that_cannot_be_obeyed_say_why():
    async with fleet(migration_slots=1) as world:
        await begin(world, max_tokens=2000)
        assert world.source.set_accepting(True, lease_epoch=5)

        async def refused(**changes: Any) -> str:
            answer = await world.source.migrate_out(
                command(world.destination, **({"lease_epoch": 5} | changes))
            )
            assert not answer.accepted
            return answer.reason

        assert "stale epoch 4" in await refused(lease_epoch=4)
        assert "is not here" in await refused(request_id="nobody")
        assert "is this instance" in await refused(destination_instance_id="a")
        assert "destination_peer_endpoint" in await refused(destination_peer_endpoint="nonsense")
        assert "no request that may leave" in await refused(budget_tokens=10)
        assert "order" in await refused(order="prettiest")
        on_hold(world.destination)
        await world.move("r", lease_epoch=5)
        assert "no free migration slot" in await refused(migration_id="m2")
        assert world.source.counters["stale_epochs"] == 1
        await world.settled()


async def test_late_messages_are_refused_and_counted():
    from engine_agents.messages import AbortMove, Chunk, Commit, Doubt, Reserve

    async with fleet() as world:
        link = world.source.connection(world.destination.peer_endpoint)
        answers: list[Any] = []
        link.register("ghost", answers.append)
        late = [
            Chunk(migration_id="ghost", stage=0, first_block=0, blocks=1, crc32=0),
            Commit(
                migration_id="ghost",
                new_engine_id="r#2",
                first_block=0,
                blocks=0,
                crc32=0,
                frozen=b"",
                output_token_ids=[],
                num_computed_tokens=0,
            ),
            Reserve(migration_id="ghost", stage=3, new_engine_id="r#2", total_tokens=10),
            AbortMove(migration_id="ghost", reason="late"),
            Doubt(migration_id="ghost"),
        ]
        for message in late:
            assert await link.send(message, within_s=30)
        await eventually(lambda: len(answers) == 2, "a refusal and an answer")
        assert [type(answer).__name__ for answer in answers] == ["Refuse", "DoubtAnswer"]
        assert answers[1].verdict == "unknown"
        assert world.destination.counters["late_messages"] == 5
        assert idle(world.destination)
