"""Many requests, random moves, losses, damage, clients that leave: nothing is lost, nothing leaks."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from engine_agents.messages import MigrationOutcome
from engine_agents.serve import AgentServer
from tests.engine_agents.harness import BareGateway, eventually, gateway_to, running_agent, swap, undisturbed
from tests.engine_agents.migration.fleet import SEEDED, Fleet, command

REQUESTS = 24
MOVES = 60


def unreliable(agent: AgentServer, dice: random.Random) -> None:
    """One answer in twenty is lost, one chunk in thirty damaged, one COMMIT in fifteen lost."""
    reply, connection = agent.reply, agent.connection

    def lossy_reply(reply_to: bytes, message: Any) -> bool:
        return dice.random() >= 0.05 and reply(reply_to, message)

    class LossyLink:
        def __init__(self, link: Any) -> None:
            self._link = link

        def __getattr__(self, name: str) -> Any:
            return getattr(self._link, name)

        async def send(self, message: Any, *args: Any, **kwargs: Any) -> bool:
            lost = type(message).__name__ == "Commit" and dice.random() < 1 / 15
            return lost or await self._link.send(message, *args, **kwargs)

        async def send_bulk(self, message: Any, frame: Any) -> None:
            if dice.random() < 1 / 30:
                message.checksum ^= 1
            await self._link.send_bulk(message, frame)

    swap(agent, "reply", lossy_reply)
    swap(agent, "connection", lambda endpoint: LossyLink(connection(endpoint)))


async def move_at_random(agents: list[AgentServer], gateway: BareGateway, dice: random.Random) -> None:
    for number in range(MOVES):
        source, destination = dice.sample(agents, 2)
        await source.migrate_out(
            command(destination, migration_id=f"m{number}", max_requests=dice.randint(1, 3))
        )
        await asyncio.sleep(dice.uniform(0.0, 0.05))


async def leave_at_random(gateway: BareGateway, names: list[str], dice: random.Random) -> set[str]:
    """Some clients leave: the gateway aborts their request wherever it may be."""
    left = set(dice.sample(names, 4))
    for name in left:
        await asyncio.sleep(dice.uniform(0.0, 0.3))
        for agent in "abc":
            await gateway.abort(agent, *(f"{name}#{dispatch}" for dispatch in range(1, 60)))
    return left


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_storm(seed):
    dice = random.Random(seed)
    tight: dict[str, Any] = {
        "migration_slots": 6,
        "commit_timeout_s": 0.3,
        "stage_timeout_s": 1.0,
        "reservation_ttl_s": 2.0,
        "kv_memory_bytes": 16 * 1024 * 300,
    }
    async with (
        running_agent("a", **tight) as a,
        running_agent("b", **tight) as b,
        running_agent("c", **tight) as c,
        gateway_to(a, b, c) as gateway,
    ):
        agents, outcomes = [a, b, c], list[MigrationOutcome]()
        for agent in agents:
            unreliable(agent, dice)
            swap(agent, "report", outcomes.append)
        prompts = {
            f"r{i}": [dice.randrange(256) for _ in range(dice.randint(5, 200))] for i in range(REQUESTS)
        }
        for index, (name, prompt) in enumerate(prompts.items()):
            await gateway.add("abc"[index % 3], name, prompt, max_tokens=700, **SEEDED)
        moving = asyncio.create_task(move_at_random(agents, gateway, dice))
        left = await leave_at_random(gateway, list(prompts), dice)
        await moving
        stayed = [name for name in prompts if name not in left]
        await gateway.until_finished(*stayed)
        ends = [one.state for one in outcomes if one.state in ("done", "aborted")]
        assert ends.count("done") >= 2
        assert ends.count("aborted") >= 1
        assert not gateway.duplicates
        for name in stayed:
            assert gateway.text(name) == undisturbed(name, 700, prompts[name], **SEEDED), name
        await eventually(lambda: not any(agent.desk.outgoing for agent in agents), "all sessions to end")
        for first, second in ((a, b), (c, a)):
            await Fleet(first, second, gateway, outcomes).all_back()
