"""However a request ends, nothing of it stays in the gateway (nor in its agents, which live here too)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from controlplane.gateway import keys, latency
from controlplane.gateway.live_requests import LiveRequest
from controlplane.gateway.recovery import GiveUp
from engine_agents import live_requests
from engine_agents.migration import arriving
from tests.census import census, grown, nothing_logged
from tests.gateway.harness import MODEL, Fleet

pytestmark = [pytest.mark.engine, pytest.mark.paced]

TIMES = 20
"""Of each way to end: what keeps one entry per request of any way grows by so much at least."""
PATIENCE_S = 30.0
BRIEF: dict[str, Any] = {"max_tokens": 4, "ignore_eos": True}
LONG: dict[str, Any] = {"max_tokens": 2000, "ignore_eos": True, "stream": True}
SLOW = {"base_step_ms": 10.0}
BRIEF_ENDS: tuple[tuple[int, dict[str, Any]], ...] = (
    (200, BRIEF),
    (200, {**BRIEF, "stream": True}),
    (200, {**BRIEF, "n": 3}),
    (200, {**BRIEF, "n": 2, "stream": True}),
    (200, {**BRIEF, "max_tokens": 100, "stop": ["e", "a", "o", "i"]}),
    (400, {**BRIEF, "max_tokens": -1}),
)


@pytest.fixture(autouse=True)
def _short_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is remembered for a while, or up to a number, reaches that during the test."""
    monkeypatch.setattr(arriving, "REMEMBER_S", 0.05)
    monkeypatch.setattr(latency, "WINDOW_S", 0.05)
    monkeypatch.setattr(live_requests, "REMEMBERED_DISPATCHES", TIMES)
    monkeypatch.setattr(keys, "MAX_KEYS", TIMES)
    with nothing_logged():
        yield


@pytest.fixture
def agents(fleet: Fleet) -> Iterator[Fleet]:
    for name in ("a", "b"):
        fleet.add_agent(name, engine_args=SLOW, kv_memory_bytes=64 * 2**20)
    yield fleet
    for name in list(fleet.agents):
        fleet.stop_agent(name)


def test_the_gateway_is_as_large_after_more_requests(agents: Fleet) -> None:
    serve(agents)
    forget_as_observer(agents)
    before = census()
    serve(agents)
    assert agents.gateway.journal.counters["moves"] >= 2 * TIMES
    assert agents.gateway.journal.counters["recoveries"] >= 2 * TIMES
    deadline = time.monotonic() + PATIENCE_S
    forget_as_observer(agents)
    while more := grown(before, census(), TIMES // 2):
        assert time.monotonic() < deadline, more
        time.sleep(0.1)
        forget_as_observer(agents)


def forget_as_observer(fleet: Fleet) -> None:
    """What the fleet has noted for tests to look at."""
    for kept in (fleet.records, fleet.reports, fleet.uses, fleet.excess):
        kept.clear()


def serve(fleet: Fleet) -> None:
    """As many requests of each way to end."""
    for status, body in BRIEF_ENDS:
        assert ask_all(fleet, body) == [status] * TIMES
    assert ask_all(fleet, BRIEF, unknown_keys=True) == [401] * TIMES
    with_open_streams(fleet, lambda lives: None)
    with_open_streams(fleet, lambda lives: move_all(fleet, lives))
    with_open_streams(fleet, lambda lives: cut_links(fleet, lives))
    with_open_streams(fleet, lambda lives: end_all(fleet, lives))


def ask_all(fleet: Fleet, body: dict[str, Any], *, unknown_keys: bool = False) -> list[int]:
    """Statuses of as many at once."""

    async def one(client: httpx.AsyncClient, number: int) -> int:
        key = f"unknown-{number}-{time.monotonic()}" if unknown_keys else "good-key"
        asked = {"model": MODEL, "prompt": f"Tell me {number}", **body}
        reply = await client.post("/v1/completions", json=asked, headers={"Authorization": f"Bearer {key}"})
        return reply.status_code

    async def everybody() -> list[int]:
        async with httpx.AsyncClient(base_url=fleet.url, timeout=PATIENCE_S) as client:
            return await asyncio.gather(*(one(client, number) for number in range(TIMES)))

    return asyncio.run(everybody())


def with_open_streams(fleet: Fleet, disturb: Callable[[list[LiveRequest]], None]) -> None:
    """Streams whose clients leave in the end, when ``disturb`` has done something to them."""

    async def one(client: httpx.AsyncClient, leave: asyncio.Event) -> None:
        body = {"model": MODEL, "prompt": "Tell me all", **LONG}
        headers = {"Authorization": "Bearer good-key"}
        async with client.stream("POST", "/v1/completions", json=body, headers=headers):
            await leave.wait()

    async def everybody() -> None:
        leave = asyncio.Event()
        async with httpx.AsyncClient(base_url=fleet.url, timeout=PATIENCE_S) as client:
            streams = [asyncio.create_task(one(client, leave)) for _ in range(TIMES)]
            await asyncio.to_thread(fleet.wait_for, lambda: sum(map(_has_begun, _lives(fleet))) == TIMES)
            await asyncio.to_thread(disturb, fleet.loop.call(_lives, fleet))
            leave.set()
            await asyncio.gather(*streams)

    asyncio.run(everybody())
    fleet.wait_for(lambda: not fleet.gateway.open_requests)


def _lives(fleet: Fleet) -> list[LiveRequest]:
    return fleet.gateway.matching(lambda live: True)


def _has_begun(live: LiveRequest) -> bool:
    return bool(live.entry.tokens)


def move_all(fleet: Fleet, lives: list[LiveRequest]) -> None:
    for live in lives:
        while not live.entry.moves:
            fleet.move(live.entry)
            fleet.wait_for(lambda: not any(agent.desk.outgoing for agent in fleet.agents.values()))


def cut_links(fleet: Fleet, lives: list[LiveRequest]) -> None:
    for name in ("a", "b"):
        fleet.loop.call(fleet.gateway.links._links[name].lose, "cut by the test")
        fleet.wait_for(lambda: fleet.gateway.links.usable() == {"a", "b"})
    fleet.wait_for(lambda: all(live.entry.recoveries for live in lives))


def end_all(fleet: Fleet, lives: list[LiveRequest]) -> None:
    for live in lives:
        fleet.loop.call(fleet.gateway.end, live, GiveUp(503, "ended by the test"))
