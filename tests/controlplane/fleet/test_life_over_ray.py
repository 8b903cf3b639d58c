"""The fleet's life over a real Ray of a head and two nodes: paced engines, the real loop, a watchful load."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from controlplane.fleet import ray_connection, services
from controlplane.fleet.models import Instance, InstanceTransition, Pool, ScalingRecord
from controlplane.fleet.reconciliation import QUARANTINE_AFTER, next_restart_at
from controlplane.rebalancing import services as rebalancing
from tests.controlplane import builders
from tests.controlplane.fleet.ray_fleet import Load, RayFleet
from tests.ray_cluster import TwoNodes, two_nodes

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,  # starts a Ray of three nodes and about twenty agents
    pytest.mark.django_db,
    pytest.mark.timeout(900),
]
ENGINE = {"base_step_ms": 4.0, "per_sequence_ms": 0.0, "per_prefill_token_ms": 0.0}
KV_BYTES = 16 * 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    with two_nodes() as ray:
        yield ray
        import ray as driver

        driver.shutdown()
        ray_connection.connection.lost("the tests are over")


@pytest.fixture
def pool(cluster: TwoNodes, live_redis: Any, settings: Any, tmp_path: Any) -> Pool:
    settings.RAY_ADDRESS, settings.STATE_DIR, settings.LINK_SECRET = cluster.address, tmp_path, ""
    return builders.pool(engine_args=ENGINE, kv_memory_bytes=KV_BYTES, max_instances=3)


@pytest.fixture
def fleet(pool: Pool) -> Iterator[RayFleet]:
    assert ray_connection.connection.ready(timeout_s=60)
    running = RayFleet()
    yield running
    running.stop_all()


@pytest.fixture
def load(fleet: RayFleet) -> Iterator[Load]:
    fleet.load = Load(open_at_once=6, tokens=250)
    yield fleet.load
    fleet.load._ending.set()


def add(pool: Pool, count: int = 1) -> None:
    services.add_instances(pool=pool, count=count, actor="ann")


def test_agents_are_placed_by_resources_and_labels_and_what_cannot_be_is_said(cluster, fleet, pool):
    near = builders.pool("near", engine_args=ENGINE, kv_memory_bytes=KV_BYTES, resources={"fast_disk": 1})
    far = builders.pool("far", engine_args=ENGINE, kv_memory_bytes=KV_BYTES, node_labels={"zone": "b"})
    nowhere = builders.pool("nowhere", engine_args=ENGINE, node_labels={"zone": "c"})
    greedy = builders.pool("greedy", engine_args=ENGINE, resources={"num_gpus": 4})
    for each in (near, far, nowhere, greedy):
        add(each)
    fleet.until_states(near_1="ready", far_1="ready", nowhere_1="unhealthy", greedy_1="unhealthy")
    pids = fleet.pids()
    assert cluster.agents_on("a") == {pids["near-1"]}
    assert cluster.agents_on("b") == {pids["far-1"]}
    causes = {name: cause for name, _, cause in fleet.causes()}
    assert "has the labels zone=c" in causes["nowhere-1"]
    assert "num_gpus=4 (the most on one node: 0)" in causes["greedy-1"]


def test_a_pool_is_restarted_one_by_one_under_load_without_a_failed_request(fleet, pool, load):
    add(pool, 2)
    fleet.until_states(chat_1="ready", chat_2="ready")
    fleet.until(lambda: load.tokens_seen > 300, "tokens")
    before = fleet.pids()
    operation = services.start_rolling_restart(
        pool=pool, engine_args={**ENGINE, "base_step_ms": 5.0}, actor="ann"
    )
    ended = fleet.until_done(operation.operation_id)
    assert (ended.state, ended.done, ended.total) == ("succeeded", 2, 2), ended.problem
    after = fleet.pids()
    assert all(after[name] != before[name] for name in before)
    assert set(Instance.objects.values_list("pool_revision", flat=True)) == {2}
    seen = load.tokens_seen
    fleet.until(lambda: load.tokens_seen > seen + 300, "tokens of the new ones")
    load.end()
    away = InstanceTransition.objects.filter(state="draining").order_by("id").values_list("at", flat=True)
    back = InstanceTransition.objects.filter(state="ready", previous__in=["starting", "warming"])
    first_back = back.filter(instance__instance_id="chat-1").order_by("-id")[0].at
    assert away[1] > first_back, "one at a time"


def test_a_rolling_restart_that_fails_stops_and_takes_the_change_back(fleet, pool):
    add(pool, 2)
    fleet.until_states(chat_1="ready", chat_2="ready")
    untouched = fleet.pids()["chat-2"]
    operation = services.start_rolling_restart(pool=pool, engine_args={"nonsense": 1}, actor="ann")
    ended = fleet.until_done(operation.operation_id)
    assert ended.state == "failed"
    assert "chat-1 does not come up with revision 2" in ended.problem
    assert "nonsense" in ended.problem
    fleet.until_states(chat_1="ready", chat_2="ready")
    pool.refresh_from_db()
    assert pool.engine_args == ENGINE
    assert fleet.pids()["chat-2"] == untouched


def test_the_policy_scales_from_one_to_three_and_back_and_nobody_notices(fleet, pool, load):
    capacity = KV_BYTES // (16 * 1024) * 16
    scaling = {
        "enabled": True,
        "interval_s": 0.5,
        "cooldown_s": 1.0,
        "up_cooldown_s": 1.0,
        "max_instances": 3,
    }
    band = {"low_freeness_tokens": capacity / 4, "high_freeness_tokens": capacity / 2}
    version = rebalancing.create_policy_version(
        pool=pool, config={"policy": "llumnix", "scaling": {**scaling, **band}}, actor="ann"
    )
    rebalancing.activate_policy_version(version=version, actor="ann")
    add(pool)
    fleet.until_states(chat_1="ready")
    load.open_at_once = 40
    fleet.until_states(chat_1="ready", chat_2="ready", chat_3="ready")
    load.open_at_once = 1

    def one_left() -> bool:
        return sorted(fleet.states().values()) == ["ready", "stopped", "stopped"]

    fleet.until(one_left, "one instance")
    load.end()
    pool.refresh_from_db()
    assert pool.target_instances == 1
    records = ScalingRecord.objects.filter(carried_out=True, actor="system:policy")
    assert {row.action for row in records} >= {"up", "down"}
    assert all(row.reason for row in records)


def test_the_head_goes_and_comes_back_and_engines_go_on(cluster, fleet, pool, load):
    """Case 22."""
    add(pool, 2)
    fleet.until_states(chat_1="ready", chat_2="ready")
    pids = fleet.pids()
    cluster.kill_head()
    assert "Ray's head" in fleet.alarm
    services.scale_pool(pool=pool, target=3, actor="ann")
    fleet.until(lambda: fleet.problem, "word that nothing can be placed")
    seen = load.tokens_seen
    fleet.until(lambda: load.tokens_seen > seen + 2000, "tokens without a head")
    assert fleet.states() == {"chat-1": "ready", "chat-2": "ready", "chat-3": "pending"}
    cluster.start_head()
    fleet.until(lambda: not fleet.alarm, "the end of the alarm")
    fleet.until_states(chat_1="ready", chat_2="ready", chat_3="ready")
    assert {name: pid for name, pid in fleet.pids().items() if name in pids} == pids
    everybody = cluster.agents_on("a") | cluster.agents_on("b")
    assert everybody == set(fleet.pids().values()), "nobody was placed twice"
    fleet.lead_anew()
    services.drain_instance(instance=Instance.objects.get(instance_id="chat-1"), actor="ann")
    fleet.until_states(chat_1="drained")
    load.end()


def test_what_cannot_start_is_tried_with_pauses_then_quarantined_and_others_go_on(fleet, pool, load):
    """Case 23."""
    add(pool)
    fleet.until_states(chat_1="ready")
    bad = builders.pool("bad", engine_args={"nonsense": 1})
    add(bad)
    starts = 0
    while (row := Instance.objects.get(instance_id="bad-1")).state != "quarantined":
        if row.state == "pending":
            starts += 1
        if row.state == "unhealthy":
            early = next_restart_at(row) - timedelta(seconds=0.1)
            fleet.jobs(now=early)
            assert Instance.objects.get(pk=row.pk).state == "unhealthy", "not before its pause is over"
            fleet.jobs(now=next_restart_at(row))
        fleet.tick()
        time.sleep(0.02)
    assert row.failures == QUARANTINE_AFTER
    assert "nonsense" in row.cause
    assert "nonsense" in row.failure_log
    assert fleet.states()["chat-1"] == "ready"
    load.end()


def test_a_killed_engine_is_started_again_after_a_pause(fleet, pool):
    """Case 23."""
    add(pool)
    fleet.until_states(chat_1="ready")
    before = fleet.pids()["chat-1"]
    os.kill(before, signal.SIGKILL)
    fleet.until_states(chat_1="unhealthy")
    fleet.until_states(chat_1="ready")
    assert fleet.pids()["chat-1"] != before
    assert Instance.objects.get().failures == 1


def test_an_engine_told_to_end_empties_first_and_comes_back(fleet, pool, load):
    """Case 28."""
    add(pool, 2)
    fleet.until_states(chat_1="ready", chat_2="ready")
    fleet.until(lambda: load.tokens_seen > 300, "tokens")
    before = fleet.pids()["chat-1"]
    os.kill(before, signal.SIGTERM)
    fleet.until(lambda: fleet.states()["chat-1"] == "draining", "its drain")
    fleet.until(lambda: fleet.pids().get("chat-1") not in (before, None), "a new one")
    fleet.until_states(chat_1="ready", chat_2="ready")
    load.end()


def test_a_drain_past_its_deadline_ends_the_engine_where_that_was_chosen(fleet, pool):
    add(pool)
    fleet.until_states(chat_1="ready")
    alone = Load(open_at_once=1, tokens=3000)
    fleet.load = alone
    fleet.until(lambda: alone.tokens_seen > 10, "a request that cannot move")
    before = fleet.pids()["chat-1"]
    row = services.drain_instance(
        instance=Instance.objects.get(), actor="ann", deadline_s=1.0, on_deadline="recompute"
    )
    overdue = row.drain_deadline_at + timedelta(seconds=0.1)
    fleet.until(lambda: timezone.now() > overdue, "the deadline")
    fleet.until(lambda: fleet.pids().get("chat-1") not in (before, None), "a new one")
    fleet.until_states(chat_1="drained")
    assert fleet.until_done(row.operation_id).state == "succeeded"
