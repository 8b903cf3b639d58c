"""However a request ends on an agent, nothing of it stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from engine_agents import live_requests
from engine_agents.messages import MigrateOut
from engine_agents.migration import arriving
from engine_agents.serve import AgentServer
from tests.census import census, grown, nothing_logged
from tests.engine_agents.harness import BareGateway, eventually, gateway_to, idle, running_agent

TIMES = 20
"""Of each way to end: what keeps one entry per request of any way grows by so much at least."""
LONG = 2_000
PATIENCE_S = 30.0


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is remembered for a while, or up to a number, reaches that during the test."""
    monkeypatch.setattr(arriving, "REMEMBER_S", 0.05)
    monkeypatch.setattr(live_requests, "REMEMBERED_DISPATCHES", TIMES)
    with nothing_logged():
        yield


async def test_an_agent_is_as_large_after_more_requests() -> None:
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(running_agent(name)) for name in ("a", "b")]
        await serve(agents, "warm-up")
        before = census()
        await serve(agents, "counted")
        deadline = time.monotonic() + PATIENCE_S
        while more := grown(before, census(), TIMES // 2):
            assert time.monotonic() < deadline, more
            await asyncio.sleep(0.1)


async def serve(agents: list[AgentServer], incarnation: str) -> None:
    """As many requests of each way; the gateway leaves in the end, with some of its requests running."""
    a, b = agents
    async with gateway_to(a, b, incarnation=incarnation) as gateway:
        names = [f"{incarnation}-{number}" for number in range(TIMES)]
        await finished(gateway, names)
        await refused(gateway, names)
        await aborted(gateway, names)
        await recovered_here(gateway, names)
        await moved(gateway, a, b, names)
        await move_denied(gateway, a, b, names)
        await aborted_moving(gateway, a, b, names)
        for name in names:
            await gateway.add("a", f"{name}-left", [1, 2, 3], max_tokens=LONG)
        await gateway.until_tokens(f"{names[-1]}-left", 1)
        gateway.break_links()
    await eventually(lambda: idle(a, b) and a.is_empty() and b.is_empty(), "everything to end")


async def finished(gateway: BareGateway, names: list[str]) -> None:
    for name in names:
        await gateway.add("a", name, [1, 2, 3], max_tokens=3)
    await gateway.until_finished(*names)


async def refused(gateway: BareGateway, names: list[str]) -> None:
    """Because that number was used before, and because of what is in it."""
    ids = [await gateway.add("a", name, [1, 2, 3]) for name in names]
    ids += [await gateway.add("a", f"{name}-refused", []) for name in names]
    await gateway.until(lambda: gateway.refused.keys() >= set(ids), "all to be refused")


async def aborted(gateway: BareGateway, names: list[str]) -> None:
    """Half of them before their first token, as a rule."""
    ids = [await gateway.add("a", f"{name}-aborted", [1, 2, 3], max_tokens=LONG) for name in names]
    await gateway.abort("a", *ids[::2])
    for name in names[1::2]:
        await gateway.until_tokens(f"{name}-aborted", 2)
    await gateway.abort("a", *ids)


async def recovered_here(gateway: BareGateway, names: list[str]) -> None:
    """Under a newer number, with tokens, while the older one still runs."""
    for name in names:
        await gateway.add("a", f"{name}-again", [1, 2, 3], max_tokens=LONG)
    for name in names:
        await gateway.add("a", f"{name}-again", [1, 2, 3], dispatch=2, prior=[4, 5], max_tokens=4)
    await gateway.until_finished(*(f"{name}-again" for name in names))


async def moved(gateway: BareGateway, a: AgentServer, b: AgentServer, names: list[str]) -> None:
    adopted = len(gateway.adopted)
    for number, name in enumerate(names, start=1):
        name = await begin_move(gateway, a, b, name)
        await gateway.until_adoptions(adopted + number)
        await gateway.abort("b", f"{name}#2")


async def move_denied(gateway: BareGateway, a: AgentServer, b: AgentServer, names: list[str]) -> None:
    gateway.grants = False
    for name in names:
        name = await begin_move(gateway, a, b, f"{name}-denied")
        await eventually(lambda: not a.desk.outgoing, "the move to end")
        await gateway.abort("a", f"{name}#1")
    gateway.grants = True


async def aborted_moving(gateway: BareGateway, a: AgentServer, b: AgentServer, names: list[str]) -> None:
    """At another moment of the hand-over each time."""
    for number, name in enumerate(names):
        name = await begin_move(gateway, a, b, f"{name}-aborted")
        await asyncio.sleep(number * 0.0005)
        for at, dispatch in (("a", 1), ("b", 2)):
            await gateway.abort(at, f"{name}#{dispatch}")
        await eventually(lambda: not a.desk.outgoing and not b.desk.arriving, "the move to end")


async def begin_move(gateway: BareGateway, a: AgentServer, b: AgentServer, name: str) -> str:
    """Of a request with a few tokens; returns its id."""
    request_id = f"{name}-moved"
    await gateway.add("a", request_id, [1, 2, 3], max_tokens=LONG)
    await gateway.until_tokens(request_id, 2)
    command = MigrateOut(
        migration_id=request_id,
        destination_instance_id="b",
        destination_peer_endpoint=b.peer_endpoint,
        rule="manual",
        lease_epoch=1,
        budget_tokens=10_000,
        request_id=request_id,
    )
    answer = await a.migrate_out(command)
    assert answer.accepted, answer.reason
    return request_id
