"""Commands and messages that the migration desk refuses, and what it says."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.engine_agents.harness import eventually, idle
from tests.engine_agents.migration.fleet import (
    begin,
    command,
    fleet,
    on_hold,
)


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
        assert "m1 is under way" in await refused(migration_id="m1")
        assert "no free migration slot at the source" in await refused(migration_id="m2")
        assert world.source.counters["stale_epochs"] == 1
        await world.settled()


async def test_one_that_is_leaving_is_not_chosen_again():
    async with fleet(migration_slots=2) as world:
        await begin(world, max_tokens=3000)
        held = on_hold(world.destination)
        await world.move("r")
        await asyncio.wait_for(held.wait(), 30)
        again = await world.source.migrate_out(command(world.destination, migration_id="m2", request_id="r"))
        assert again.reason == "request_id: r cannot leave: it is leaving"
        await world.settled()
        await world.gateway.abort("ab"[world.last.state == "done"], f"r#{1 + (world.last.state == 'done')}")
        await world.all_back()


async def test_late_messages_are_refused_and_counted():
    from engine_agents.messages import AbortMove, Chunk, Commit, Doubt, Reserve

    async with fleet() as world:
        link = world.source.connection(world.destination.peer_endpoint)
        answers: list[Any] = []
        link.register("ghost", answers.append)
        late = [
            Chunk(migration_id="ghost", stage=0, first_block=0, blocks=1, checksum=0),
            Commit(
                migration_id="ghost",
                new_engine_id="r#2",
                first_block=0,
                blocks=0,
                checksum=0,
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
