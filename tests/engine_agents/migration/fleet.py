"""Two agents over real sockets, a gateway, and ways to make one thing go wrong.

The paced engine computes each token from the KV it holds, so a wrong, missing or
misplaced block, a lost token or a lost draw of the sampler shows in the text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from engine_agents.messages import MigrateOut, MigrationOutcome
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


async def begin(world: Fleet, max_tokens: int = 600, **sampling: Any) -> str:
    """Request ``r``, long enough to be there still when a busy machine gets round to moving it."""
    name = await world.gateway.add("a", "r", PROMPT, max_tokens=max_tokens, **sampling)
    await world.gateway.until_tokens("r", 10)
    return name


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


def lose_answers(agent: AgentServer, kind: str, count: int) -> None:
    """The first ``count`` answers of a kind never reach the source."""
    reply, lost = agent.reply, [0]

    def lossy(reply_to: bytes, message: Any) -> bool:
        if type(message).__name__ in kind.split() and lost[0] < count:
            lost[0] += 1
            return False
        return reply(reply_to, message)

    swap(agent, "reply", lossy)


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
