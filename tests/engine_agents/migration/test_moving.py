"""Requests that move between two agents over real sockets: the tokens are those of unmoved ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine_agents.messages import SetRank
from engine_agents.serve import AgentServer
from tests.engine_agents.harness import eventually, idle, paced, swap, undisturbed
from tests.engine_agents.migration.fleet import (
    PROMPT,
    SEEDED,
    begin,
    command,
    fleet,
    on_hold,
)


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
        # On a busy machine no step may come in between, and the newest token is not in the cache yet.
        assert outcome.tokens_moved >= outcome.tokens_at_start - 1 >= len(PROMPT)
        assert (outcome.rule, outcome.tenant, outcome.slo_class) == ("manual", "demo", "standard")
        assert outcome.why == "asked for by an operator"
        states = [one.state for one in world.outcomes]
        assert states[0] == "reserving"
        assert "freezing" in states


async def test_long_contexts_go_in_several_chunks_and_stages_while_decoding_goes_on():
    prompt = [(3 * i) % 200 for i in range(3000)]
    slow: dict[str, Any] = {
        "kv_memory_bytes": 64 * 2**20,
        "engine_args": {"kv_bytes_per_token": 8192, "base_step_ms": 2.0},
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


async def test_a_stage_may_last_as_long_as_its_chunks_come():
    prompt = [(3 * i) % 200 for i in range(3000)]
    slow: dict[str, Any] = {
        "kv_memory_bytes": 64 * 2**20,
        "engine_args": {"kv_bytes_per_token": 8192, "base_step_ms": 10.0},
        "copy_bytes_per_s": 16.0 * 2**20,
        "stage_timeout_s": 0.75,
    }
    async with fleet(**slow) as world:
        await world.gateway.add("a", "r", prompt, max_tokens=400)
        await world.gateway.until_tokens("r", 1)
        await world.move("r")
        outcome = await world.settled()
        assert outcome.state == "done", outcome
        assert outcome.stages[0].duration_ms > 750
        await world.gateway.until_finished("r")
        await world.all_back()


@pytest.mark.parametrize(
    ("rule", "others", "urgent"), [("load", 1, False), ("drain", 1, True), ("load", 0, True)]
)
async def test_who_drains_or_is_alone_copies_more_of_the_time(rule, others, urgent):
    async with fleet() as world:
        seen: list[bool] = []
        copy = world.source.ways._pace.copy

        async def noting(work: Any, size: int, in_a_hurry: bool = False) -> int:
            seen.append(in_a_hurry)
            return await copy(work, size, in_a_hurry)

        swap(world.source.ways._pace, "copy", noting)
        for other in range(others):
            await world.gateway.add("a", f"other{other}", PROMPT, max_tokens=2000)
            await world.gateway.until_tokens(f"other{other}", 1)
        await begin(world)
        await world.move("r", rule=rule)
        assert (await world.settled()).state == "done"
        assert seen
        assert set(seen) == {urgent}


async def test_there_and_back_and_on_again():
    expected = undisturbed("r", 1500, PROMPT, **SEEDED)
    async with fleet() as world:
        await world.gateway.add("a", "r", PROMPT, max_tokens=1500, **SEEDED)
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
                "ab"[index % 2], name, PROMPT[: 20 + 15 * index], max_tokens=900, **SEEDED
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
            expected = undisturbed(name, 900, PROMPT[: 20 + 15 * index], **SEEDED)
            assert world.gateway.text(name) == expected
        await world.all_back()


async def test_a_request_in_the_middle_of_its_prefill_moves():
    prompt = [i % 250 for i in range(600)]
    slow_prefill = {"max_num_batched_tokens": 32, "base_step_ms": 5.0}
    async with fleet(engine_args=slow_prefill) as world:
        await world.gateway.add("a", "r", prompt, max_tokens=30, **SEEDED)
        await eventually(lambda: world.source.engine.load().used_blocks > 0, "prefill to begin")
        await world.move("r")
        outcome = await world.settled()
        await world.gateway.until_finished("r")
        assert outcome.state == "done", outcome
        assert world.gateway.adopted[0].start == 0
        assert world.gateway.text("r") == undisturbed("r", 30, prompt, **SEEDED)
        await world.all_back()


async def test_a_waiting_request_moves_by_its_tokens_and_starts_where_there_is_room():
    async with fleet(source={"engine_args": {"max_num_seqs": 1}}) as world:
        await begin(world, max_tokens=2000)
        await world.gateway.add("a", "w", PROMPT, max_tokens=100, **SEEDED)
        await eventually(lambda: world.source.engine.load().waiting == 1, "it to wait")
        await world.move("w")
        outcome = await world.settled()
        await world.gateway.until_finished("w")
        assert outcome.state == "done", outcome
        assert [stage.bytes for stage in outcome.stages] == [0]
        assert world.gateway.text("w") == undisturbed("w", 100, PROMPT, **SEEDED)
        await world.gateway.abort("a", "r#1")
        await world.all_back()


async def test_a_drain_takes_those_that_wait_along_even_where_they_must_wait_again():
    full = {"engine_args": {"max_num_seqs": 1}}
    async with fleet(source=full, migration_slots=4) as world:
        await begin(world, max_tokens=900)
        await world.gateway.add("a", "w", PROMPT, max_tokens=50)
        await eventually(lambda: world.source.engine.load().waiting == 1, "it to wait")
        answer = await world.source.migrate_out(command(world.destination, rule="drain", max_requests=4))
        assert {plan.request_id for plan in answer.planned} == {"r", "w"}
        await eventually(lambda: idle(world.source), "the source to be empty")
        await world.gateway.until_finished("r", "w")
        assert world.gateway.text("w") == undisturbed("w", 50, PROMPT)
        assert world.gateway.text("r") == undisturbed("r", 900, PROMPT)
        await world.all_back()


@pytest.mark.parametrize("again", [False, True], ids=["waits", "runs again"])
async def test_one_that_is_preempted_in_the_middle_of_a_stage_goes_on_there(again):
    """Its pinned blocks are copied all the same; what was not copied is computed again."""
    async with fleet() as world:
        await begin(world, max_tokens=700, **SEEDED)
        engine = paced(world.source)
        read, batch = engine.read, engine._batch
        admit = batch._admit

        def preempt() -> None:
            batch._preempt(batch.live["r#1"])
            world.source._intake.from_engine_preempted("r#1")
            if not again:
                swap(batch, "_admit", lambda _: iter(()))

        def read_late(*args: Any) -> None:
            swap(engine, "read", read)
            engine._submit(preempt).result(30)
            read(*args)

        swap(engine, "read", read_late)
        await world.move("r")
        outcome = await world.settled()
        swap(batch, "_admit", admit)
        await world.gateway.until_finished("r")
        assert outcome.state == "done", outcome
        assert outcome.stages[0].blocks > 0
        assert world.gateway.preempted == ["r#1"]
        assert world.gateway.text("r") == undisturbed("r", 700, PROMPT, **SEEDED)
        assert not world.gateway.duplicates
        await world.all_back()


def rank_of(agent: AgentServer, engine_id: str) -> int | None:
    live = agent.live.get(engine_id)
    return live.rank if live else None


async def test_urgency_changes_while_it_runs_and_travels():
    async with fleet() as world:
        await begin(world, max_tokens=600)
        await world.gateway.send("a", SetRank(engine_ids=["r#1", "unknown#1"], rank=7, slo_class="batch"))
        await eventually(lambda: rank_of(world.source, "r#1") == 7, "the new rank")
        held = on_hold(world.destination)
        await world.move("r")
        await asyncio.wait_for(held.wait(), 30)
        await world.gateway.send("a", SetRank(engine_ids=["r#1"], rank=3))
        assert (await world.settled()).state == "done"
        await eventually(lambda: rank_of(world.destination, "r#2") == 3, "the rank to arrive")
        assert world.destination.load().per_class[0].slo_class == "batch"
        assert paced(world.destination)._batch.live["r#2"].rank == 3
        await world.gateway.until_finished("r")
        await world.all_back()
