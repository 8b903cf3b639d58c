"""The actor without Ray: control calls from a foreign thread, start-up failures, a dead engine."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from engine_agents.actor import EngineAgent, load_engine
from engine_agents.messages import MigrateOutAnswer, RequestInfo, encode
from tests.engine_agents.harness import agent_config, eventually, gateway_to, paced, running_agent, swap
from tests.engine_agents.migration.fleet import command


async def test_control_calls_cross_as_messagepack():
    agent = EngineAgent(msgspec.msgpack.encode(agent_config("a")))
    try:
        await asyncio.to_thread(agent.wait_ready)
        server = agent._serving()
        assert agent.describe()["info"]["engine"] == "simulated"
        async with gateway_to(server) as gateway:
            await gateway.add("a", "r", list(range(20)), max_tokens=3000)
            await gateway.until_tokens("r", 1)
            rows = msgspec.msgpack.decode(agent.requests(), type=list[RequestInfo])
            assert [(row.request_id, row.state) for row in rows] == [("r", "running")]
            agent.set_rank(["r#1"], 9)
            assert agent.set_accepting(False, 7) is True
            assert agent.set_accepting(True, 6) is False
            answer = agent.migrate_out(encode(command(server, lease_epoch=7)))
            assert "is this instance" in msgspec.msgpack.decode(answer, type=MigrateOutAnswer).reason
    finally:
        agent.shutdown()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"engine": "steam"}, "engine: 'steam' is unknown"),
        ({"engine_args": {"block_size": 3}}, "engine_args.block_size: unknown"),
        ({"kv_memory_bytes": 5}, "kv_memory_bytes: 5 holds 0 blocks"),
        ({"engine_args": {"max_num_seqs": 0}}, "engine_args.max_num_seqs: must be positive"),
    ],
)
def test_what_keeps_an_agent_from_starting_is_said(changes, sentence):
    agent = EngineAgent(msgspec.msgpack.encode(agent_config("a", **changes)))
    with pytest.raises(ValueError, match=sentence):
        agent.wait_ready()
    agent.shutdown()


async def test_a_taken_port_is_said():
    async with running_agent("a") as first:
        port = int(first.data_endpoint.rpartition(":")[2])
        agent = EngineAgent(msgspec.msgpack.encode(agent_config("b", data_port=port)))
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await asyncio.to_thread(agent.wait_ready)


async def test_a_dead_engine_is_noticed_and_reported_once():
    deaths: list[str] = []
    async with running_agent("a") as server, gateway_to(server) as gateway:
        server._on_failure = deaths.append
        await gateway.until(lambda: "a" in gateway.heartbeats)

        def dead() -> None:
            raise RuntimeError("the engine's thread has ended")

        swap(paced(server), "load", dead)
        await eventually(lambda: deaths, "the death to be noticed")
        beats = gateway.heartbeats["a"].seq
        await asyncio.sleep(1.5)
        assert deaths == ["the engine's thread has ended"]
        assert gateway.heartbeats["a"].seq <= beats + 1, "a dead engine sends no signs of life"


def test_importing_the_launcher_loads_neither_vllm_nor_torch():
    import subprocess
    import sys

    script = "import sys, engine_agents.launch; print({'vllm', 'torch'} & set(sys.modules))"
    seen = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "set()"


def test_the_paced_engine_is_loaded_by_name():
    assert type(load_engine(agent_config("a"))).__name__ == "PacedEngine"
