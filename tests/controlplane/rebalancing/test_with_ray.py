"""The whole control plane over a real Ray: agents with the paced engine, a real Redis, real moves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from django.conf import settings
from django.utils import timezone

from controlplane.fleet import live_status, ray_connection, watching
from controlplane.fleet import services as fleet
from controlplane.fleet.agents import MoveCommand
from controlplane.fleet.models import Instance
from controlplane.fleet.ray_agents import RayAgentClient
from controlplane.fleet.reconciliation import reconcile
from controlplane.rebalancing import services
from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop
from controlplane.rebalancing.models import RequestMigration
from engine_agents.link_security import gateway_keys
from engine_agents.messages import InstanceStatus, MigrateOut
from tests.controlplane import builders
from tests.engine_agents.harness import BareGateway

pytestmark = [
    pytest.mark.ray,
    pytest.mark.paced,
    pytest.mark.slow,
    pytest.mark.django_db,
    pytest.mark.timeout(600),
]

T = TypeVar("T")
PATIENCE_S = 120.0
ENGINE = {"base_step_ms": 4.0, "per_sequence_ms": 0.0, "per_prefill_token_ms": 0.0}


class Fleet:
    """Two running agents and the loop that leads them, ticked by hand."""

    def __init__(self, agents: RayAgentClient) -> None:
        self.agents = agents
        settings = LoopSettings(command_timeout_s=20.0, lease_ttl_ms=600_000)
        self.loop = RebalancingLoop(owner="test", agents=agents, settings=settings)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"waited in vain for {what}: {self.states()}"
            self.tick()
            time.sleep(0.05)

    def tick(self) -> None:
        self.loop.tick(now_s=time.monotonic(), now=datetime.now(tz=UTC))

    def states(self) -> dict[str, str]:
        return dict(Instance.objects.values_list("instance_id", "state"))

    def endpoint(self, instance_id: str) -> str:
        return self.status(instance_id).data_endpoint

    def status(self, instance_id: str) -> InstanceStatus:
        statuses = {each.status.instance_id: each.status for each in live_status.read_statuses(time.time())}
        return statuses[instance_id]


@pytest.fixture
def two_agents(ray_address, live_redis, monkeypatch, tmp_path):
    monkeypatch.setattr(settings, "RAY_ADDRESS", ray_address)
    monkeypatch.setattr(settings, "STATE_DIR", tmp_path)
    pool = builders.pool(engine_args=ENGINE, kv_memory_bytes=16 * 2**20)
    fleet.add_instances(pool=pool, count=2, actor="test")
    agents = RayAgentClient()
    reconcile(agents=agents, start_timeout_s=300, now=timezone.now())
    running = Fleet(agents)
    assert running.loop.lead(now_s=time.monotonic(), now=datetime.now(tz=UTC))
    running.until(lambda: set(running.states().values()) == {"ready"}, "two ready instances")
    yield running
    agents.stop(list(Instance.objects.values_list("instance_id", flat=True)), grace_s=0.0)
    import ray

    ray.shutdown()
    ray_connection.connection.lost("the test is over")


class Gateway:
    """A gateway on a thread of its own, so that it goes on while the test waits for something else."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.wire = self.do(self._make())

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def start_requests(self, fleet: Fleet, names: list[str]) -> None:
        for instance_id in ("chat-1", "chat-2"):
            self.do(self.wire.connect(fleet.endpoint(instance_id)))
        for number, name in enumerate(names):
            self.do(self.wire.add("chat-1", name, [1, 2, 3, number], max_tokens=3000))
        for name in names:
            self.do(self.wire.until_tokens(name, 5))

    def close(self) -> None:
        self.do(self.wire.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _make(self) -> BareGateway:
        wire = BareGateway()
        wire.keys = gateway_keys(settings.LINK_SECRET)
        return wire


def test_agents_are_started_drained_moved_and_stopped_over_ray(two_agents):
    names = ["r-0", "r-1", "r-2"]
    gateway = Gateway()
    try:
        gateway.start_requests(two_agents, names)
        see_requests(two_agents, names)
        move_one(two_agents)
        drain(two_agents, gateway, names)
        old_epochs_are_refused(two_agents)
    finally:
        gateway.close()
    stop(two_agents)


def see_requests(fleet: Fleet, names: list[str]) -> None:
    watching.look_at(["chat-1"], wall_s=time.time())
    fleet.until(lambda: watching.look_at(["chat-1"], wall_s=time.time())["chat-1"], "the requests' detail")
    found = watching.look_at(["chat-1"], wall_s=time.time())["chat-1"]
    assert found is not None
    assert {each.request_id for each in found} == set(names)


def move_one(fleet: Fleet) -> None:
    row = services.request_migration(
        request_id="r-1", source_id="chat-1", destination_id="chat-2", actor="ann"
    )

    def ended() -> bool:
        row.refresh_from_db()
        return row.is_final

    fleet.until(ended, "the end of the manual move")
    assert (row.state, row.reason) == ("done", "")
    assert row.stages
    assert row.downtime_ms is not None
    fleet.until(lambda: fleet.status("chat-2").running == 1, "the request at its new place")


def drain(fleet_: Fleet, gateway: Gateway, names: list[str]) -> None:
    fleet.drain_instance(instance=Instance.objects.get(instance_id="chat-1"), actor="ann")
    fleet_.until(lambda: fleet_.states()["chat-1"] == "drained", "the end of the drain")
    drained = RequestMigration.objects.filter(rule="drain", state="done")
    assert {row.request_id for row in drained} == {"r-0", "r-2"}
    for name in names:
        gateway.do(gateway.wire.until_tokens(name, len(gateway.wire.tokens[name]) + 3))
        gateway.wire.text(name)
    fleet.undrain_instance(instance=Instance.objects.get(instance_id="chat-1"), actor="ann")
    fleet_.until(lambda: fleet_.status("chat-1").accepting, "chat-1 to accept work again")


def old_epochs_are_refused(fleet: Fleet) -> None:
    assert fleet.status("chat-1").lease_epoch == fleet.loop.epoch
    stale = MigrateOut(
        migration_id="stale",
        destination_instance_id="chat-1",
        destination_peer_endpoint=fleet.status("chat-1").peer_endpoint,
        rule="load",
        lease_epoch=fleet.loop.epoch - 1,
        budget_tokens=10_000,
    )
    (answer,) = fleet.agents.migrate_out([MoveCommand("chat-2", stale)], timeout_s=30.0)
    assert not answer.accepted
    assert "epoch" in answer.reason
    assert fleet.agents.set_accepting({"chat-2": False}, lease_epoch=0, timeout_s=30.0)["chat-2"]
    assert fleet.status("chat-2").accepting


def stop(fleet_: Fleet) -> None:
    row = Instance.objects.get(instance_id="chat-1")
    fleet.stop_instance(instance=row, actor="ann")
    reconcile(agents=fleet_.agents, start_timeout_s=300, now=timezone.now())
    assert fleet_.states()["chat-1"] == "stopped"
    assert fleet_.agents.startup_problems(["chat-1"]) == {"chat-1": "its agent does not exist"}
