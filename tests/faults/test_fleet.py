"""The fleet's life and its faults over a real Ray of a head and two nodes: paced engines, the real loop and
jobs, and a load that counts every token. Cases 22, 23, 28 and 29, drains, rolling restarts, scaling."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psutil
import pytest

from controlplane.fleet import ray_connection, services
from controlplane.fleet.models import Instance, InstanceTransition, Pool, ScalingRecord
from controlplane.fleet.reconciliation import HUNG_AFTER, QUARANTINE_AFTER, next_restart_at
from controlplane.rebalancing import services as rebalancing
from tests.controlplane import builders
from tests.faults.conftest import option
from tests.faults.ray_fleet import Load, RayFleet
from tests.ray_cluster import TwoNodes, two_nodes

pytestmark = [
    pytest.mark.ray,
    pytest.mark.paced,
    pytest.mark.slow,  # starts a Ray of three nodes and about twenty agents
    pytest.mark.django_db,
    pytest.mark.timeout(900),
]
ENGINE = {"base_step_ms": 4.0, "per_sequence_ms": 0.0, "per_prefill_token_ms": 0.0}
KV_BYTES = 16 * 2**20
COOLDOWN_S = 1.0
LONG_TOKENS = 3000
"""Twelve seconds and more at the engine's pace."""


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
def load(fleet: RayFleet, seed: int) -> Iterator[Load]:
    fleet.load = Load(open_at_once=6, tokens=250, seed=seed)
    yield fleet.load
    fleet.load.give_up()


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


def test_a_pool_is_restarted_one_by_one_under_load(fleet, pool, load, matrix, seed):
    with matrix.trial(28, "rolling restart of a pool under load", seed) as trial:
        add(pool, 2)
        fleet.until_states(chat_1="ready", chat_2="ready")
        fleet.until(lambda: load.tokens_seen > 300, "tokens")
        before = fleet.pids()
        operation = services.start_rolling_restart(
            pool=pool, engine_args={**ENGINE, "base_step_ms": 5.0}, actor="ann"
        )
        ended = fleet.until_done(operation.operation_id)
        assert (ended.state, ended.done, ended.total) == ("succeeded", 2, 2), ended.problem
        assert not set(before.values()) & set(fleet.pids().values())
        assert set(Instance.objects.values_list("pool_revision", flat=True)) == {2}
        seen = load.tokens_seen
        fleet.until(lambda: load.tokens_seen > seen + 300, "tokens of the new ones")
        load.end(trial)
        assert one_at_a_time(), list(InstanceTransition.objects.values_list("at", "state"))


def one_at_a_time() -> bool:
    """Never were two of the pool out of service at once."""
    out: set[int] = set()
    for instance, state in InstanceTransition.objects.order_by("id").values_list("instance_id", "state"):
        if state == "draining":
            out.add(instance)
        elif state == "ready":
            out.discard(instance)
        if len(out) > 1:
            return False
    return True


@pytest.mark.long
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


def test_case_29_the_policy_scales_with_a_square_wave_and_never_flaps(fleet, pool, load, matrix, seed):
    with matrix.trial(29, "scaled 1 to 3 to 1 by the policy, twice", seed) as trial:
        let_the_policy_scale(pool)
        load.open_at_once = 1
        add(pool)
        fleet.until_states(chat_1="ready")
        for _ in range(2):
            load.open_at_once = 40
            fleet.until(lambda: sorted(fleet.states().values()) == ["ready"] * 3, "three instances")
            load.open_at_once = 1
            fleet.until(
                lambda: sorted(fleet.states().values()) == ["ready", "stopped", "stopped"], "one instance"
            )
        load.end(trial)
        pool.refresh_from_db()
        assert pool.target_instances == 1
        made = list(ScalingRecord.objects.filter(carried_out=True, actor="system:policy").order_by("at"))
        assert {row.action for row in made} >= {"up", "down"}
        assert all(row.reason for row in made)
        gaps_s = [(after.at - before.at).total_seconds() for before, after in pairwise(made)]
        assert min(gaps_s) >= COOLDOWN_S
        trial.note(changes=len(made))


def let_the_policy_scale(pool: Pool) -> None:
    capacity_tokens = KV_BYTES // 1024
    scaling = {
        "enabled": True,
        "interval_s": 0.5,
        "cooldown_s": COOLDOWN_S,
        "up_cooldown_s": COOLDOWN_S,
        "low_freeness_tokens": capacity_tokens / 4,
        "high_freeness_tokens": capacity_tokens / 2,
    }
    config = {"policy": "llumnix", "scaling": scaling}
    version = rebalancing.create_policy_version(pool=pool, config=config, actor="ann")
    rebalancing.activate_policy_version(version=version, actor="ann")


def test_case_22_the_head_goes_and_comes_back(request, cluster, fleet, pool, load, matrix, seed):
    away_s = option(request.config, "--head-away-s", 0.0)
    with matrix.trial(22, "Ray's head killed and started again", seed) as trial:
        add(pool, 2)
        fleet.until_states(chat_1="ready", chat_2="ready")
        pids = fleet.pids()
        cluster.kill_head()
        assert "Ray's head" in fleet.alarm
        services.scale_pool(pool=pool, target=3, actor="ann")
        fleet.until(lambda: fleet.problem, "word that nothing can be placed")
        seen = load.tokens_seen
        fleet.until(lambda: load.tokens_seen > seen + 2000, "tokens without a head")
        fleet.go_on(away_s)
        assert fleet.states() == {"chat-1": "ready", "chat-2": "ready", "chat-3": "pending"}
        trial.note(away_s=away_s, tokens_without_a_head=load.tokens_seen - seen)
        cluster.start_head()
        fleet.until(lambda: not fleet.alarm, "the end of the alarm")
        fleet.until_states(chat_1="ready", chat_2="ready", chat_3="ready")
        assert pids.items() <= fleet.pids().items(), "engines were taken over as they were"
        everybody = cluster.agents_on("a") | cluster.agents_on("b")
        assert everybody == set(fleet.pids().values()), "nobody was placed twice"
        fleet.lead_anew()
        services.drain_instance(instance=Instance.objects.get(instance_id="chat-1"), actor="ann")
        fleet.until_states(chat_1="drained")
        load.end(trial)


def test_case_23_what_cannot_start_is_tried_with_pauses_then_quarantined(fleet, pool, load, matrix, seed):
    with matrix.trial(23, "an engine that cannot start, beside one that serves", seed) as trial:
        add(pool)
        fleet.until_states(chat_1="ready")
        add(builders.pool("bad", engine_args={"nonsense": 1}))
        fleet.until(lambda: row_of("bad-1").state == "unhealthy", "its first failure")
        while (row := row_of("bad-1")).state != "quarantined":
            if row.state == "unhealthy":
                fleet.jobs(now=next_restart_at(row) - timedelta(seconds=0.1))
                assert row_of("bad-1").state == "unhealthy", "not before its pause is over"
                fleet.jobs(now=next_restart_at(row))
            fleet.tick()
            time.sleep(0.02)
        assert row.failures == QUARANTINE_AFTER
        assert "nonsense" in row.cause
        assert row.failure_log
        assert row_of("chat-1").state == "ready"
        load.end(trial)
        trial.note(starts=row.transitions.filter(state="starting").count())


def row_of(instance_id: str) -> Instance:
    return Instance.objects.get(instance_id=instance_id)


def test_case_23_a_killed_engine_is_started_again_after_a_pause(fleet, pool):
    add(pool)
    fleet.until_states(chat_1="ready")
    before = fleet.pids()["chat-1"]
    os.kill(before, signal.SIGKILL)
    fleet.until_states(chat_1="unhealthy")
    row = row_of("chat-1")
    fleet.jobs(now=next_restart_at(row) - timedelta(seconds=0.1))
    assert row_of("chat-1").state == "unhealthy", "not before its pause is over"
    fleet.jobs(now=next_restart_at(row))
    fleet.until_states(chat_1="ready")
    assert fleet.pids()["chat-1"] != before
    assert row_of("chat-1").failures == 1


@pytest.mark.long
def test_case_23_a_hung_engine_is_ended_and_started_again(fleet, pool):
    add(pool)
    fleet.until_states(chat_1="ready")
    before = fleet.pids()["chat-1"]
    os.kill(before, signal.SIGSTOP)
    try:
        fleet.until_states(chat_1="unhealthy")
        fleet.jobs(now=row_of("chat-1").changed_at + HUNG_AFTER + timedelta(seconds=1))
        fleet.until_states(chat_1="ready")
        assert fleet.pids()["chat-1"] != before
        fleet.until(lambda: not psutil.pid_exists(before), "the end of the hung one")
    finally:
        if psutil.pid_exists(before):
            os.kill(before, signal.SIGCONT)


def test_case_28_an_engine_told_to_end_empties_first_and_comes_back(fleet, pool, load, matrix, seed):
    with matrix.trial(28, "SIGTERM to an engine", seed) as trial:
        add(pool, 2)
        fleet.until_states(chat_1="ready", chat_2="ready")
        fleet.until(lambda: load.tokens_seen > 300, "tokens")
        before = fleet.pids()["chat-1"]
        os.kill(before, signal.SIGTERM)
        fleet.until(lambda: fleet.pids().get("chat-1") not in (before, None), "a new one")
        fleet.until_states(chat_1="ready", chat_2="ready")
        load.end(trial)
        drained = InstanceTransition.objects.filter(state="draining").values_list("cause", flat=True)
        assert list(drained) == ["its process was told to end (SIGTERM)"]


@pytest.mark.long
def test_a_drain_past_its_deadline_ends_the_engine_where_that_was_chosen(fleet, pool, load):
    # Before there is an engine: shorter requests would end within the drain's deadline.
    load.open_at_once, load.tokens = 1, LONG_TOKENS
    add(pool)
    fleet.until_states(chat_1="ready")
    fleet.until(lambda: load.tokens_seen > 10, "a request that cannot move")
    before = fleet.pids()["chat-1"]
    row = services.drain_instance(
        instance=row_of("chat-1"), actor="ann", deadline_s=1.0, on_deadline="recompute"
    )
    fleet.until(lambda: fleet.pids().get("chat-1") not in (before, None), "a new one")
    fleet.until_states(chat_1="drained")
    assert fleet.until_done(row.operation_id).state == "succeeded"
