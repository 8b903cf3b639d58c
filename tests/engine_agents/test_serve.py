"""The serving path of an agent: tokens, refusals, aborts, gateways that leave."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from engine_agents.engines.paced_wire import FINISHED_LENGTH
from engine_agents.messages import PROTOCOL_VERSION, Hello, Ready, encode
from tests.engine_agents.harness import BareGateway, eventually, gateway_to, idle, running_agent

PROMPT = list(range(3, 40))


async def test_tokens_arrive_in_order_and_every_block_comes_back():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "one", PROMPT, max_tokens=25)
        await gateway.add("a", "two", PROMPT[:5], max_tokens=10, temperature=1.0, seed=7)
        await gateway.until_finished("one", "two")
        assert len(gateway.text("one")) == 25
        assert len(gateway.text("two")) == 10
        assert gateway.finished["one"] == FINISHED_LENGTH
        assert not gateway.duplicates
        await eventually(lambda: idle(agent), "free blocks")


async def test_tokens_depend_on_prompt_seed_and_prior_tokens_only():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "whole", PROMPT, max_tokens=20, temperature=1.0, seed=3)
        await gateway.add("a", "other-seed", PROMPT, max_tokens=20, temperature=1.0, seed=4)
        await gateway.until_finished("whole", "other-seed")
        whole = gateway.text("whole")
        await gateway.add(
            "a", "resumed", PROMPT, prior=whole[:8], max_tokens=20, temperature=1.0, seed=3, dispatch=2
        )
        await gateway.until_finished("resumed")
        resumed = gateway.tokens["resumed"]
        assert min(resumed) == 8
        assert [resumed[position] for position in range(8, 20)] == whole[8:]
        assert gateway.text("other-seed") != whole


async def test_an_add_that_does_not_fit_is_refused_with_the_room_left():
    async with running_agent(kv_memory_bytes=16 * 1024 * 8) as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "big", list(range(100)), max_tokens=10_000)
        await gateway.until_tokens("big", 1)
        refused = await gateway.add("a", "late", PROMPT, only_if_fits=True)
        await gateway.until(lambda: refused in gateway.refused)
        assert gateway.refused[refused].reason == "no_room"
        assert gateway.refused[refused].room_tokens < len(PROMPT)


async def test_a_dispatch_number_is_used_once_and_never_goes_back():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "one", PROMPT, max_tokens=3, dispatch=4)
        await gateway.until_finished("one")
        stale = await gateway.add("a", "one", PROMPT, max_tokens=3, dispatch=4)
        await gateway.until(lambda: stale in gateway.refused)
        assert gateway.refused[stale].reason == "stale_dispatch"


async def test_a_newer_dispatch_ends_the_older_one():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "one", PROMPT, max_tokens=10_000)
        await gateway.until_tokens("one", 5)
        await gateway.add("a", "one", PROMPT, prior=gateway.text("one")[:5], max_tokens=8, dispatch=2)
        await gateway.until_finished("one")
        await eventually(lambda: idle(agent), "the older incarnation to end")


async def test_invalid_requests_are_refused_by_name_of_the_field():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        garbage = await gateway.add("a", "garbage", PROMPT, engine_request=b"\x93\x01\x02\x03")
        empty = await gateway.add("a", "empty", [])
        long = await gateway.add("a", "long", [1] * 5000)
        await gateway.until(lambda: len(gateway.refused) == 3)
        assert gateway.refused[garbage].reason.startswith("invalid: ")
        assert "prompt_token_ids" in gateway.refused[empty].reason
        assert "max_model_len" in gateway.refused[long].reason


async def test_draining_refuses_new_work_and_finishes_the_old():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "old", PROMPT, max_tokens=60)
        await gateway.until_tokens("old", 2)
        assert agent.set_accepting(False, lease_epoch=3)
        refused = await gateway.add("a", "new", PROMPT)
        await gateway.until(lambda: refused in gateway.refused)
        assert gateway.refused[refused].reason == "draining"
        await gateway.until_finished("old")
        assert not agent.set_accepting(True, lease_epoch=2), "an older lease epoch commands no more"
        assert agent.counters["stale_epochs"] == 1


async def test_stopping_with_grace_lets_requests_end_and_takes_no_new_ones():
    async with running_agent(gateway_timeout_s=1.0) as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "old", PROMPT, max_tokens=2500)
        await gateway.until_tokens("old", 2)
        stopping = asyncio.create_task(agent.stop(grace_s=60.0))
        await asyncio.sleep(0)
        refused = await gateway.add("a", "new", PROMPT)
        await gateway.until_finished("old")
        assert gateway.refused[refused].reason == "draining"
        await stopping


async def test_abort_frees_the_blocks():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        running = await gateway.add("a", "one", PROMPT, max_tokens=10_000)
        await gateway.until_tokens("one", 3)
        await gateway.abort("a", running, "never-seen#1", "not an id")
        await eventually(lambda: idle(agent), "free blocks")


async def test_a_silent_gateway_is_gone_and_its_requests_end():
    async with running_agent(gateway_timeout_s=1.0) as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "one", PROMPT, max_tokens=10_000)
        await gateway.until_tokens("one", 3)
        gateway.fall_silent()
        await eventually(lambda: idle(agent), "the abort of an orphan")


async def test_a_gateway_that_returns_under_a_new_incarnation_ends_what_it_had():
    async with running_agent() as agent, gateway_to(agent) as former:
        await former.add("a", "one", PROMPT, max_tokens=10_000)
        await former.until_tokens("one", 3)
        async with gateway_to(agent, incarnation="g2") as present:
            former.fall_silent()
            await eventually(lambda: idle(agent), "the abort of an orphan")
            await present.add("a", "two", PROMPT, max_tokens=4)
            await present.until_finished("two")


async def test_rubbish_on_the_wire_is_counted_and_harms_nobody():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        socket = gateway._sockets["a"]
        for rubbish in (
            b"",
            b"\xc1",
            b"\x81\xa4type\xa3Adx",
            encode(Hello(gateway_id="g", incarnation="i"))[:9],
        ):
            await socket.send(rubbish)
        await gateway.add("a", "one", PROMPT, max_tokens=4)
        await gateway.until_finished("one")
        assert agent.gateways.refused_messages == 4


async def test_a_gateway_of_another_protocol_is_told_ours_and_not_served():
    async with running_agent() as agent:
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.DEALER)
        socket.connect(agent.data_endpoint)
        await socket.send(encode(Hello(gateway_id="g", incarnation="i", protocol_version=99)))
        ready = msgspec.msgpack.decode(await socket.recv(), type=Ready)
        assert ready.protocol_version == PROTOCOL_VERSION != 99
        assert not agent.gateways.gateways()
        context.destroy(linger=0)


async def test_a_gateway_of_another_engine_version_is_refused_by_name():
    async with running_agent() as agent, gateway_to(agent) as gateway:
        next(iter(agent.gateways.gateways())).engine_version = "0.0.1"
        refused = await gateway.add("a", "one", PROMPT)
        await gateway.until(lambda: refused in gateway.refused)
        assert gateway.refused[refused].reason == "version"


async def test_preemption_loses_no_token_and_is_told():
    # Nine blocks of 16 tokens; three requests grow to 60 tokens each, four blocks apiece.
    small: dict[str, Any] = {"kv_memory_bytes": 16 * 1024 * 9}
    async with (
        running_agent("calm") as calm,
        running_agent("tight", **small) as tight,
        gateway_to(calm) as reference,
        gateway_to(tight) as gateway,
    ):
        names = ["one", "two", "three"]
        for name in names:
            sampling: dict[str, Any] = {"max_tokens": 40, "temperature": 1.0, "seed": 5}
            await reference.add("calm", name, PROMPT[:20], **sampling)
            await gateway.add("tight", name, PROMPT[:20], **sampling)
        await reference.until_finished(*names)
        await gateway.until_finished(*names)
        assert {name: gateway.text(name) for name in names} == {n: reference.text(n) for n in names}
        assert gateway.preempted
        assert not reference.preempted
        assert not gateway.duplicates


async def test_a_gateway_hears_of_life_and_room():
    async with running_agent() as agent:
        gateway = BareGateway()
        try:
            await gateway.connect(agent.data_endpoint)
            await gateway.until(lambda: "a" in gateway.heartbeats)
            assert gateway.heartbeats["a"].incarnation == agent.incarnation
            assert gateway.heartbeats["a"].room_tokens == agent.room_tokens() > 0
            assert gateway.ready["a"].engine == "simulated"
            await gateway.add("a", "r", [1, 2, 3], max_tokens=2)
            await gateway.until(lambda: gateway.heartbeats["a"].seen_seq == gateway.seq, "what was seen")
        finally:
            await gateway.close()
