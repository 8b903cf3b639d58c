"""Links against an agent that says what the test wants: greeting, loss, reconnection, aborts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import zmq
import zmq.asyncio

from controlplane.gateway import links as links_module
from controlplane.gateway.links import Links, Self, Target, disagreement
from engine_agents.messages import Abort, Add, Heartbeat, Hello, Message, Ready, Step, ToAgent, encode

ME = Self("gw", "inc-1", "0.32.0", "tiny", 2048)
PATIENCE_S = 60.0


def ready(**changes) -> Ready:
    facts: dict[str, Any] = {
        "instance_id": "a",
        "incarnation": "agent-1",
        "protocol_version": 1,
        "engine": "vllm",
        "engine_version": "0.32.0",
        "served_model": "tiny",
        "max_model_len": 2048,
        "block_size_tokens": 128,
        "total_blocks": 8,
    }
    return Ready(**(facts | changes))


class ScriptedAgent:
    """A ROUTER that answers Hello and keeps what it gets."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*", answer: Ready | None = None) -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.socket.linger = 0
        self.socket.bind(endpoint)
        self.endpoint = self.socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self.answer = answer if answer is not None else ready()
        self.got: list[Message] = []
        self.hellos = 0
        self._peer = b""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        decoder = msgspec.msgpack.Decoder(ToAgent)
        while True:
            self._peer, frame = await self.socket.recv_multipart()
            message = decoder.decode(frame)
            if isinstance(message, Hello):
                self.hellos += 1
                await self.say(self.answer)
            else:
                self.got.append(message)

    async def say(self, message: Message) -> None:
        await self.socket.send_multipart([self._peer, encode(message)])

    async def say_raw(self, frame: bytes) -> None:
        await self.socket.send_multipart([self._peer, frame])

    def die(self) -> None:
        self._task.cancel()
        self.context.destroy(linger=0)


class Owner:
    def __init__(self) -> None:
        self.ready: list[str] = []
        self.lost: list[str] = []
        self.messages: list[Message] = []
        self.beats: list[Heartbeat] = []

    def link_ready(self, instance_id: str, ready: Ready) -> None:
        self.ready.append(instance_id)

    def link_lost(self, instance_id: str, reason: str) -> None:
        self.lost.append(reason)

    def link_message(self, instance_id: str, message: Message) -> None:
        if isinstance(message, Heartbeat):
            self.beats.append(message)
        else:
            self.messages.append(message)


@pytest.fixture
async def owner() -> Owner:
    return Owner()


@pytest.fixture
async def links(owner: Owner) -> AsyncIterator[Links]:
    made = Links(ME, owner, time.monotonic)
    yield made
    made.close()


async def until(condition: Callable[[], object], links: Links | None = None) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            if links is not None:
                links.connect_due()
            await asyncio.sleep(0.005)


def target(agent: ScriptedAgent, incarnation: str = "agent-1") -> Target:
    return Target("a", agent.endpoint, incarnation)


async def test_a_listed_agent_is_greeted_and_usable(links: Links, owner: Owner) -> None:
    agent = ScriptedAgent()
    links.follow([target(agent)])
    assert links.usable() == frozenset()
    await until(lambda: owner.ready)
    assert links.usable() == {"a"}
    step = Step(step=1, engine_ids=["r#1"], starts=[0], outputs=b"x")
    await agent.say(step)
    await until(lambda: owner.messages)
    assert owner.messages == [step]
    agent.die()


async def test_a_message_reaches_the_agent(links: Links, owner: Owner) -> None:
    agent = ScriptedAgent()
    links.follow([target(agent)])
    await until(lambda: owner.ready)
    add = Add(request_id="r", dispatch=1, seq=1, engine_request=b"x")
    assert links.send("a", add)
    await until(lambda: agent.got)
    assert agent.got == [add]
    assert not links.send("nobody", add)
    agent.die()


async def one_that_died(links: Links, owner: Owner) -> ScriptedAgent:
    """An agent that was linked, and whose loss has been noticed."""
    agent = ScriptedAgent()
    links.follow([target(agent)])
    await until(lambda: owner.ready)
    agent.die()
    await until(lambda: owner.lost)
    return agent


async def test_a_dead_agent_is_noticed_at_once_and_found_again(links: Links, owner: Owner) -> None:
    agent = await one_that_died(links, owner)
    assert owner.lost == ["the connection broke"] and links.usable() == frozenset()
    again = ScriptedAgent(agent.endpoint)
    await until(lambda: len(owner.ready) == 2, links)
    again.die()


async def test_aborts_wait_for_the_same_agent_only(links: Links, owner: Owner) -> None:
    agent = await one_that_died(links, owner)
    links.abort("a", ["r#1"])
    links.abort("a", ["s#1"])
    again = ScriptedAgent(agent.endpoint)
    await until(lambda: again.got, links)
    assert again.got == [Abort(engine_ids=["r#1", "s#1"])]
    again.die()


async def test_nothing_waits_for_an_agent_that_is_listed_no_more(links: Links, owner: Owner) -> None:
    agent = await one_that_died(links, owner)
    links.abort("a", ["r#1"])
    links.follow([target(agent)])
    kept = (links._aborts, links._retry_at_s, links._delay_s)
    assert all(kept)
    links.follow([])
    assert not any(kept)


async def test_a_silent_agent_is_lost(links: Links, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links_module, "SILENCE_LIMIT_S", 0.3)
    monkeypatch.setattr(links_module, "HELLO_INTERVAL_S", 0.1)
    monkeypatch.setattr(links_module, "HELLO_LIMIT_S", 60.0)
    agent = ScriptedAgent()
    links.follow([target(agent)])
    await until(lambda: owner.ready)
    agent._task.cancel()
    await until(lambda: owner.lost)
    assert owner.lost[0].startswith("silent for")
    agent.die()


async def test_an_agent_that_started_anew_is_lost_first(links: Links, owner: Owner) -> None:
    agent = ScriptedAgent()
    links.follow([target(agent)])
    await until(lambda: owner.ready)
    agent.answer = ready(incarnation="agent-2")
    await until(lambda: owner.lost, links)
    assert owner.lost == ["it started anew"]
    await until(lambda: len(owner.ready) == 2, links)
    agent.die()


async def test_another_address_in_the_report_moves_the_link(links: Links, owner: Owner) -> None:
    first, second = ScriptedAgent(), ScriptedAgent(answer=ready(incarnation="agent-2"))
    links.follow([target(first)])
    await until(lambda: owner.ready)
    links.follow([target(second, "agent-2")])
    await until(lambda: len(owner.ready) == 2, links)
    assert owner.lost == ["its address or incarnation changed"]
    first.die()
    second.die()


@pytest.mark.parametrize("lost_before", [False, True])
async def test_another_address_is_tried_without_a_pause(owner: Owner, lost_before: bool) -> None:
    links = Links(ME, owner, lambda: 0.0)  # no time passes, so no pause ends
    first, second = ScriptedAgent(), ScriptedAgent(answer=ready(incarnation="agent-2"))
    links.follow([target(first)])
    await until(lambda: owner.ready)
    if lost_before:
        first.die()
        await until(lambda: owner.lost)
        links.follow([target(first)])
        assert not links._links
    links.follow([target(second, "agent-2")])
    await until(lambda: len(owner.ready) == 2)
    links.close()
    first.die()
    second.die()


async def test_lost_steps_show_in_the_count(links: Links, owner: Owner) -> None:
    agent = ScriptedAgent()
    links.follow([target(agent)])
    await until(lambda: owner.ready)
    step = Step(step=1, engine_ids=[], starts=[], outputs=b"")
    beat = Heartbeat(instance_id="a", incarnation="agent-1", seq=1, steps_sent=7)
    await agent.say(beat)
    await agent.say(step)
    await agent.say(msgspec.structs.replace(beat, steps_sent=8))
    await until(lambda: owner.messages)
    assert owner.lost == []
    await agent.say(msgspec.structs.replace(beat, steps_sent=10))
    await until(lambda: owner.lost)
    assert owner.lost == ["it sent 3 steps, 1 arrived"]
    assert [each.steps_sent for each in owner.beats] == [7, 8], "nothing comes from a link that is lost"
    agent.die()


async def test_what_cannot_be_read_ends_the_link(links: Links, owner: Owner) -> None:
    agent = ScriptedAgent()
    links.follow([target(agent)])
    await until(lambda: owner.ready)
    await agent.say_raw(b"\xc1 no message")
    await until(lambda: owner.lost)
    assert owner.lost == ["it sent what cannot be read"]
    agent.die()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"protocol_version": 9}, "protocol"),
        ({"engine_version": "0.31.0"}, "vLLM"),
        ({"served_model": "other"}, "serves"),
        ({"max_model_len": 1024}, "max_model_len"),
    ],
)
def test_an_agent_that_disagrees_is_named_with_the_reason(changes: dict[str, Any], word: str) -> None:
    assert disagreement(ME, ready()) == ""
    assert word in disagreement(ME, ready(**changes))


def test_a_simulated_engine_has_a_version_of_its_own() -> None:
    assert disagreement(ME, ready(engine="simulated", engine_version="paced-1")) == ""


async def test_an_agent_that_disagrees_is_not_used(links: Links, owner: Owner) -> None:
    agent = ScriptedAgent(answer=ready(served_model="other"))
    links.follow([target(agent)])
    await until(lambda: links.refusals())
    assert owner.ready == [] and links.usable() == frozenset()
    agent.die()
