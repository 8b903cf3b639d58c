"""A COMMIT that is lost, or whose answer is: nothing runs twice, nothing is lost."""

from __future__ import annotations

import threading
from typing import Any

from engine_agents.migration.handshake import MoveState
from tests.engine_agents.harness import eventually, paced, swap, undisturbed
from tests.engine_agents.migration.fleet import (
    PROMPT,
    SEEDED,
    Fleet,
    begin,
    fleet,
    lose_answers,
    lose_commit,
    stays,
)


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


async def test_a_lost_commit_is_asked_for_and_the_source_resumes():
    async with fleet(commit_timeout_s=0.3) as world:
        await begin(world, max_tokens=400, **SEEDED)
        lose_commit(world.source)
        await world.move("r")
        await stays(world, "not_adopted", **SEEDED)


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


async def test_an_engine_that_hangs_while_it_adopts_is_judged_and_fenced_when_it_wakes():
    async with fleet(commit_timeout_s=0.3) as world:
        await begin(world, max_tokens=900, **SEEDED)
        engine = paced(world.destination)
        adopt, hung = engine.adopt, threading.Event()

        def late(*args: Any) -> Any:
            engine._submit(lambda: hung.wait(30))
            return adopt(*args)

        swap(engine, "adopt", late)
        await world.move("r")
        outcome = await world.settled()
        assert (outcome.state, outcome.reason) == ("aborted", "its gateway decided")
        await world.gateway.until_finished("r")
        hung.set()
        await eventually(lambda: world.gateway.refused_adoptions, "the late adoption to be refused")
        assert world.gateway.text("r") == undisturbed("r", 900, PROMPT, **SEEDED)
        assert not world.gateway.duplicates
        await world.all_back()


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
