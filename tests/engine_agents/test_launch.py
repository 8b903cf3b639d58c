"""Agents under a real Ray: start, find, move a request between two processes, die, come back, stop."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import msgspec
import pytest

from engine_agents.config import AgentConfig
from engine_agents.messages import InstanceStatus, MigrateOut, MigrateOutAnswer, encode
from tests.engine_agents.harness import BareGateway, agent_config, eventually, undisturbed
from tests.engine_agents.migration.fleet import SEEDED
from tests.engine_agents.test_status import read_outcomes

pytestmark = [pytest.mark.ray, pytest.mark.paced, pytest.mark.slow]  # slow: starts a Ray, some ten seconds

PROMPT = list(range(200))


class Agents:
    """Started through the launcher, asked through their handles."""

    def __init__(self, redis_server: Any) -> None:
        self.redis = redis_server
        self.started: list[str] = []

    async def start(self, config: AgentConfig) -> Any:
        from engine_agents import launch

        handle = await asyncio.to_thread(launch.start_agent, config)
        self.started.append(config.instance_id)
        await handle.wait_ready.remote()
        return handle

    async def stop(self) -> None:
        from engine_agents import launch

        await asyncio.to_thread(launch.stop_agents, self.started)

    def status(self, name: str) -> InstanceStatus | None:
        data = self.redis.client().hget("llumdeck:status", name)
        return msgspec.msgpack.decode(data, type=InstanceStatus) if data else None

    async def ready_status(self, name: str, not_incarnation: str = "") -> InstanceStatus:
        def ready() -> bool:
            status = self.status(name)
            return status is not None and status.state == "ready" and status.incarnation != not_incarnation

        await eventually(ready, f"{name} to report")
        status = self.status(name)
        assert status is not None
        return status


@pytest.fixture
async def agents(ray_cluster, redis_server):
    started = Agents(redis_server)
    yield started
    await started.stop()


@pytest.fixture
async def gateway():
    bare = BareGateway()
    yield bare
    await bare.close()


async def test_a_request_moves_between_two_processes(agents, gateway):
    for name in ("ray-a", "ray-b"):
        await agents.start(agent_config(name, redis_url=agents.redis.url))
        await gateway.connect((await agents.ready_status(name)).data_endpoint)
    await gateway.add("ray-a", "r", PROMPT, max_tokens=2000, **SEEDED)
    await gateway.until_tokens("r", 20)
    move = MigrateOut(
        migration_id="m1",
        destination_instance_id="ray-b",
        destination_peer_endpoint=agents.status("ray-b").peer_endpoint,
        rule="load",
        lease_epoch=1,
        budget_tokens=10_000,
    )
    from engine_agents import launch

    handle: Any = launch.find_agent("ray-a")
    answer = msgspec.msgpack.decode(await handle.migrate_out.remote(encode(move)), type=MigrateOutAnswer)
    assert [plan.request_id for plan in answer.planned] == ["r"]
    await gateway.until_finished("r")
    assert gateway.text("r") == undisturbed("r", 2000, PROMPT, **SEEDED)
    await eventually(lambda: read_outcomes(agents.redis)[-1].state == "done", "the outcome")
    outcome = read_outcomes(agents.redis)[-1]
    assert len(outcome.stages) >= 2
    assert outcome.downtime_ms > 0
    assert (outcome.source_instance_id, outcome.destination_instance_id) == ("ray-a", "ray-b")


async def test_a_killed_agent_comes_back_under_a_new_incarnation(agents, gateway):
    await agents.start(agent_config("ray-c", redis_url=agents.redis.url))
    before = await agents.ready_status("ray-c")
    os.kill(before.pid, signal.SIGKILL)
    after = await agents.ready_status("ray-c", not_incarnation=before.incarnation)
    assert after.pid != before.pid
    await gateway.connect(after.data_endpoint)
    await gateway.add("ray-c", "r", PROMPT, max_tokens=5)
    await gateway.until_finished("r")


async def test_names_are_unique_and_absent_ones_are_not_found(agents):
    from engine_agents import launch

    await agents.start(agent_config("ray-d"))
    with pytest.raises(ValueError, match="already"):
        launch.start_agent(agent_config("ray-d"))
    assert launch.find_agent("ray-nobody") is None
    assert launch.stop_agent("ray-nobody") is False


async def test_what_keeps_an_agent_from_starting_crosses_ray(agents):
    with pytest.raises(ValueError, match="engine: 'steam' is unknown"):
        await agents.start(agent_config("ray-e", engine="steam"))
