"""The whole way with real vLLM engines: Ray actors, ZMQ, a running request that moves, Redis.

This process loads no vLLM: requests and outputs are positional MessagePack, and
the paced engine's encoding of them is vLLM's.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine_agents.config import AgentConfig
from engine_agents.messages import MigrateOut, MigrateOutAnswer, MigrationOutcome, encode
from tests.engine_agents.harness import BareGateway, eventually
from tests.engine_agents.test_launch import Agents
from tests.engine_agents.test_status import read_outcomes

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.slow]  # slow: loads two engines

PROMPT = [5 + (11 * i) % 200 for i in range(700)]
TOKENS = 300
UNHURRIED = "engine.step:delay=0.006"
"""So that a request still runs when it is to move, on a fast machine, too."""
SAMPLINGS = {"greedy": {"temperature": 0.0}, "seeded": {"temperature": 1.0, "seed": 17}}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "tiny"
    command = [sys.executable, "-m", "engine_agents.vllm_engine.tiny_model", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def config(name: str, model: Path, redis_url: str) -> AgentConfig:
    return AgentConfig(
        instance_id=name,
        pool="pool",
        served_model="tiny",
        model=str(model),
        redis_url=redis_url,
        engine_args={"block_size": 32},
        gateway_timeout_s=30.0,
        stage_timeout_s=30.0,
        commit_timeout_s=10.0,
        failpoints=UNHURRIED,
    )


async def move(agents: Agents, request_id: str, source: str, destination: str, number: int) -> None:
    from engine_agents import launch

    there = await agents.ready_status(destination)
    command = MigrateOut(
        migration_id=f"m-{request_id}-{number}",
        destination_instance_id=destination,
        destination_peer_endpoint=there.peer_endpoint,
        rule="manual",
        lease_epoch=1,
        budget_tokens=10_000,
        request_id=request_id,
    )
    handle: Any = launch.find_agent(source)
    answer = msgspec.msgpack.decode(await handle.migrate_out.remote(encode(command)), type=MigrateOutAnswer)
    assert answer.accepted, answer.reason


async def outcome_of(agents: Agents, migration_id: str) -> MigrationOutcome:
    def final() -> list[MigrationOutcome]:
        outcomes = read_outcomes(agents.redis)
        return [
            one for one in outcomes if one.migration_id == migration_id and one.state in ("done", "aborted")
        ]

    await eventually(final, f"the end of {migration_id}")
    return final()[0]


async def test_moved_requests_make_the_same_tokens_as_unmoved_ones(ray_cluster, redis_server, model):
    agents, gateway = Agents(redis_server), BareGateway()
    try:
        async with asyncio.timeout(280):
            names = ("vllm-a", "vllm-b")
            await asyncio.gather(*(agents.start(config(name, model, redis_server.url)) for name in names))
            for name in names:
                await gateway.connect((await agents.ready_status(name)).data_endpoint)
            await asyncio.gather(
                *(
                    identical_there_and_back(agents, gateway, label, sampling)
                    for label, sampling in SAMPLINGS.items()
                )
            )
            await eventually(lambda: all(is_empty(agents, name) for name in names), "all blocks to come back")
    finally:
        await gateway.close()
        await agents.stop()


async def identical_there_and_back(
    agents: Agents, gateway: BareGateway, label: str, sampling: dict[str, Any]
) -> None:
    await gateway.add("vllm-a", f"calm-{label}", PROMPT, max_tokens=TOKENS, **sampling)
    await gateway.until_finished(f"calm-{label}")
    moving = f"moving-{label}"
    await gateway.add("vllm-a", moving, PROMPT, max_tokens=TOKENS, **sampling)
    for number, (source, destination) in enumerate([("vllm-a", "vllm-b"), ("vllm-b", "vllm-a")]):
        await gateway.until_tokens(moving, 40 + 100 * number)
        await move(agents, moving, source, destination, number)
        outcome = await outcome_of(agents, f"m-{moving}-{number}")
        assert outcome.state == "done", outcome
        assert len(outcome.stages) >= 2
        assert outcome.stages[0].tokens_meanwhile > 0
    await gateway.until_finished(moving)
    assert gateway.text(moving) == gateway.text(f"calm-{label}")
    assert len(gateway.text(moving)) == TOKENS
    assert not gateway.duplicates


def is_empty(agents: Agents, name: str) -> bool:
    status = agents.status(name)
    return status is not None and status.used_blocks == status.reserved_blocks == status.running == 0
