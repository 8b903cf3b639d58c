"""Cases 16 to 21, 24 and 25: the control plane fails in every way it can, and no stream notices.

Real Celery workers and beats, a real Redis and real databases; agents in processes of their own, with
paced engines so that streams outlive an outage on any machine.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.gateway.fleet_view import FleetView
from controlplane.rebalancing.loop import LONGEST_BACKOFF_TICKS
from controlplane.rebalancing.tasks import STAND_BY_S
from tests import postgres_server
from tests.faults.agents import wait_until
from tests.faults.conftest import option
from tests.faults.control_plane import (
    INTERVAL_S,
    LEASE_TTL_S,
    NAMES,
    ControlPlane,
    ControlStage,
    SlowSite,
)
from tests.faults.database import PostgresDatabase, SqliteFile, fill, small_disk
from tests.faults.redis_server import RedisServer
from tests.faults.relay import Relay, Way
from tests.faults.scene import Scene

# slow: outages take their time, and Celery workers theirs to start
pytestmark = [
    pytest.mark.engine,
    pytest.mark.workers,
    pytest.mark.paced,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

SHIFT_S = 3_600
TICKS_AT_LEAST = 4
"""While the database is away: a loop that waited for it would make one."""
RETRIED_S = LONGEST_BACKOFF_TICKS * INTERVAL_S
"""So often a Redis that is away is asked whether it is back."""
TAKEN_OVER_S = LEASE_TTL_S + STAND_BY_S
"""A leader that says nothing any more is known to be gone when its lease ends and another looks."""


@pytest.fixture(scope="module")
def long_form(request) -> bool:
    return option(request.config, "--fault-seeds", 1) > 1


@pytest.fixture(scope="module")
def outage_s(long_form) -> float:
    return 10.0 if long_form else 2.5


@pytest.fixture(scope="module")
def ruled_stage(tiny_model, long_form) -> Iterator[ControlStage]:
    from engine_agents.vllm_engine.frontend import build_front_half

    with tempfile.TemporaryDirectory(prefix="control-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        server = RedisServer(folder)
        site = SlowSite("paced", tiny_model, build_front_half, server.url, folder)
        plane = ControlPlane(folder, site, server, SqliteFile(folder))
        try:
            for worker in ("w1", "w2"):
                plane.worker(worker)
            yield ControlStage(site, plane, tokens=300, step_ms=50.0 if long_form else 20.0)
        finally:
            plane.close()
            site.close()
            server.kill()


def dice(case: int, seed: int) -> random.Random:
    return random.Random(f"{case}/{seed}")


def count_ticks(back_ms: float, scene: Scene, *, detection_s: float = 0.0) -> None:
    """How long the loop was away after the end of the outage, and how many ticks beyond detection."""
    beyond_ms = max(0.0, back_ms - 1e3 * detection_s)
    scene.trial.note(loop_back_ms=round(back_ms), ticks_beyond=round(beyond_ms / (1e3 * INTERVAL_S)))


# --------------------------------------------------------------- 16, 17, 18: leaders


def test_case_16_a_leader_killed_in_the_middle_of_a_tick(ruled_stage, matrix, seed):
    """After the first of several commands: whoever follows finds out what was done, and repeats nothing."""
    plane = ruled_stage.plane
    with ruled_stage.ruled(matrix, 16, "loop worker killed after n of m commands", seed) as scene:
        scene.somewhere()
        leader, epoch = plane.leader(), plane.watcher.last().epoch
        plane.order("kill-after", str(dice(16, seed).randrange(0, 2)))
        plane.drain("a", "b")
        scene.struck()
        wait_until(lambda: plane.processes[leader].poll() is not None, f"{leader} to die", limit_s=60)
        back_ms = plane.back_after(time.monotonic(), epoch)
        count_ticks(back_ms, scene, detection_s=TAKEN_OVER_S)
        plane.end(leader)
        plane.worker(leader)
        wait_until(lambda: all(on_c(ruled_stage)), "everything to be on c", limit_s=60)


def on_c(stage: ControlStage) -> list[bool]:
    return [where == ["c"] for where in stage.site.owners().values()]


def test_case_17_a_leader_that_wakes_up_too_late_commands_nobody(ruled_stage, matrix, seed):
    """Stopped between its decision and its commands, for longer than its lease: then the commands go out."""
    plane = ruled_stage.plane
    with ruled_stage.ruled(matrix, 17, "two rebalancers: leader stopped past its lease", seed) as scene:
        scene.somewhere()
        leader, epoch = plane.leader(), plane.watcher.last().epoch
        refused = plane.refused()
        plane.order("stop-before")
        plane.drain("a", "b")
        scene.struck()
        wait_until(lambda: plane.taken("stop-before"), "the leader to stop", limit_s=60)
        stopped_s = time.monotonic()
        back_ms = plane.back_after(stopped_s, epoch)
        count_ticks(back_ms, scene, detection_s=TAKEN_OVER_S)
        # Agents learn of the new epoch with the first command of the new leader.
        wait_until(lambda: min(known_epochs(ruled_stage)) > epoch, "agents to know the new epoch")
        plane.signal(leader, signal.SIGCONT)
        wait_until(lambda: plane.refused() > refused, "the late commands to be refused", limit_s=60)
        plane.wait_ticking(5)
        assert plane.watcher.last().epoch > epoch
        assert plane.leader() != leader


def known_epochs(stage: ControlStage) -> list[int]:
    return [stage.site.procs[name].ask("describe")["lease_epoch"] for name in NAMES]


def test_case_18_two_beats_make_one_loop(ruled_stage, matrix, seed):
    plane = ruled_stage.plane
    for name in ("beat-1", "beat-2"):
        plane.beat(name)
    try:
        with ruled_stage.ruled(matrix, 18, "two beats", seed) as scene:
            before, began_s = len(plane.watcher.beats), time.monotonic()
            scene.struck()
            scene.wait_tokens(150 * len(scene.answers))
            ticks = plane.watcher.beats[before:]
            periods = (time.monotonic() - began_s) / INTERVAL_S
            leaders = {(each.status.leader, each.status.epoch) for each in ticks}
            scene.trial.note(ticks=len(ticks), periods=round(periods))
            assert len(leaders) == 1
            assert len(ticks) <= periods + 2
    finally:
        plane.end("beat-1", "beat-2")


# --------------------------------------------------------------- 19: Redis


def test_case_19_redis_is_emptied(ruled_stage, matrix, seed):
    plane = ruled_stage.plane
    with ruled_stage.ruled(matrix, 19, "Redis: FLUSHALL", seed) as scene:
        scene.somewhere()
        epoch = plane.watcher.last().epoch
        known = max(known_epochs(ruled_stage))
        scene.struck()
        plane.redis.empty()
        count_ticks(plane.back_after(time.monotonic(), epoch), scene, detection_s=RETRIED_S)
        assert plane.watcher.last().epoch > max(epoch, known)


def test_case_19_redis_is_killed_and_comes_back(ruled_stage, matrix, seed, outage_s):
    plane = ruled_stage.plane
    with ruled_stage.ruled(matrix, 19, "Redis killed, restarted", seed) as scene:
        scene.somewhere()
        scene.struck()
        plane.redis.kill()
        time.sleep(outage_s)
        plane.redis.start()
        count_ticks(plane.back_after(time.monotonic()), scene, detection_s=RETRIED_S)


def test_case_19_redis_answers_nobody_for_a_while(ruled_stage, matrix, seed, outage_s):
    plane = ruled_stage.plane
    with ruled_stage.ruled(matrix, 19, "Redis: CLIENT PAUSE", seed) as scene:
        scene.somewhere()
        scene.struck()
        healed_s = time.monotonic() + outage_s
        plane.redis.pause(outage_s)
        time.sleep(outage_s)
        count_ticks(plane.back_after(healed_s), scene, detection_s=RETRIED_S)


# --------------------------------------------------------------- 20, 21: the database, the disk


def test_case_20_a_locked_sqlite_database(ruled_stage, matrix, seed, outage_s):
    """The loop decides on with what it last read, moves requests, and stores what happened afterwards."""
    plane = ruled_stage.plane
    with ruled_stage.ruled(matrix, 20, "database locked: BEGIN EXCLUSIVE", seed) as scene:
        scene.somewhere()
        before = len(plane.watcher.beats)
        scene.struck()
        with plane.database.locked():
            time.sleep(outage_s)
        ticks = len(plane.watcher.beats) - before
        scene.trial.note(ticks_missed=max(0, round(outage_s / INTERVAL_S - ticks)))
        plane.wait_ticking()
        assert ticks >= TICKS_AT_LEAST


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresDatabase]:
    if reason := postgres_server.missing():
        pytest.skip(reason)
    server = postgres_server.PostgresServer()
    yield PostgresDatabase(server)
    server.close()


@pytest.fixture
def on_postgres(ruled_stage, postgres) -> Iterator[ControlPlane]:
    """The same control plane with its rows in PostgreSQL."""
    plane, sqlite = ruled_stage.plane, ruled_stage.plane.database
    plane.end("w1", "w2")
    plane.database = postgres
    plane._run_to_end("-m", "tests.faults.seed_database", "pool", *NAMES)
    plane.worker("w1")
    yield plane
    plane.end("w1")
    plane.database = sqlite
    for worker in ("w1", "w2"):
        plane.worker(worker)


@pytest.mark.long
@pytest.mark.parametrize("how", ["LOCK TABLE", "stopped"])
def test_case_20_postgresql_is_locked_or_away(ruled_stage, on_postgres, matrix, seed, outage_s, how):
    plane, server = on_postgres, on_postgres.database.server
    with ruled_stage.ruled(matrix, 20, f"PostgreSQL: {how}", seed) as scene:
        scene.somewhere()
        before = len(plane.watcher.beats)
        scene.struck()
        if how == "stopped":
            server.stop()
            time.sleep(outage_s)
            server.start()
        else:
            with plane.database.locked():
                time.sleep(outage_s)
        ticks = len(plane.watcher.beats) - before
        scene.trial.note(ticks_missed=max(0, round(outage_s / INTERVAL_S - ticks)))
        assert [each.part for each in plane.watcher.last().degraded] == ["database"]
        wait_until(lambda: not plane.watcher.last().degraded, "the database to be back", limit_s=60)
        assert ticks >= TICKS_AT_LEAST


def test_case_21_a_full_disk_stops_history_and_nothing_else(ruled_stage, matrix, seed, outage_s):
    plane, sqlite = ruled_stage.plane, ruled_stage.plane.database
    with small_disk(8) as folder:
        if folder is None:
            pytest.skip("no file system can be mounted here")
        plane.end("w1", "w2")
        plane.database = SqliteFile(folder)
        plane._run_to_end("-m", "tests.faults.seed_database", "pool", *NAMES)
        plane.worker("w1")
        try:
            with ruled_stage.ruled(matrix, 21, "disk full", seed) as scene:
                scene.somewhere()
                scene.struck()
                plane.drain("a", "b")
                ballast = fill(folder)
                wait_until(
                    lambda: [each.part for each in plane.watcher.last().degraded] == ["database"],
                    "the full disk to be noticed",
                    limit_s=60,
                )
                wait_until(lambda: all(on_c(ruled_stage)), "moves in spite of it", limit_s=60)
                ballast.unlink()
                wait_until(lambda: not plane.watcher.last().degraded, "room to be found", limit_s=60)
        finally:
            plane.end("w1")
            plane.database = sqlite
            for worker in ("w1", "w2"):
                plane.worker(worker)


# --------------------------------------------------------------- 24, 25: reports and clocks


def test_case_24_an_instance_whose_reports_stop_gets_no_new_work(ruled_stage, matrix, seed):
    """Its engine goes on and its link is alive; only what it reports is old."""
    site, plane = ruled_stage.site, ruled_stage.plane
    relay = Relay(f"tcp://127.0.0.1:{plane.redis.port}")
    host = relay.endpoint.removeprefix("tcp://")
    site.procs["c"].kill()
    changed = site.config("c").__class__(
        **{
            **{name: getattr(site.config("c"), name) for name in site.config("c").__struct_fields__},
            "redis_url": plane.redis.url.replace(f"127.0.0.1:{plane.redis.port}", host),
        }
    )
    site.procs["c"] = site.nursery.start("c", changed)
    site.procs["c"].wait_ready()
    site.wait_usable("c")
    try:
        with ruled_stage.ruled(matrix, 24, "reports of one instance stop", seed) as scene:
            scene.somewhere()
            scene.struck()
            relay.weather.silent = frozenset({Way.OUT, Way.BACK})
            limit_s = site.rules.config.dispatch.staleness_limit_s
            view: FleetView = site.process.view
            aged = lambda: age_of(view, "c") > limit_s + 0.5  # noqa: E731
            wait_until(aged, "the report to grow old", limit_s=60)
            asks = ruled_stage.asks(dice(24, seed), 4)
            with site.streaming(asks) as load:
                late = load.answers
                wait_until(lambda: all(one.count for one in late), "new streams")
                placed = site.owners()
                misrouted = sum(
                    one.request_id in name and "c" in where
                    for one in late
                    for name, where in placed.items()
                    if one.request_id
                )
            scene.trial.note(misrouted=misrouted)
            assert misrouted == 0
            relay.heal()
            wait_until(lambda: age_of(view, "c") < limit_s, "a fresh report", limit_s=60)
    finally:
        relay.close()
        site.procs["c"].kill()


def age_of(view: FleetView, name: str) -> float:
    return next(item.age_s for item in view.seen(time.monotonic()) if item.status.instance_id == name)


@pytest.mark.parametrize("shift_s", [SHIFT_S, pytest.param(-SHIFT_S, marks=pytest.mark.long)])
def test_case_25_a_worker_whose_clock_is_an_hour_off(ruled_stage, matrix, seed, shift_s):
    """It leads, nothing expires, its epoch is higher; a worker with the right time follows it likewise."""
    plane = ruled_stage.plane
    ahead = "ahead" if shift_s > 0 else "behind"
    try:
        with ruled_stage.ruled(matrix, 25, f"worker's clock an hour {ahead}", seed) as scene:
            scene.somewhere()
            epoch = plane.watcher.last().epoch
            scene.struck()
            plane.end("w1", "w2")
            plane.worker("shifted", FAULTS_CLOCK_SHIFT_S=str(shift_s))
            plane.back_after(time.monotonic(), epoch)
            told_s = plane.watcher.last().last_tick_at_s - time.time()
            assert abs(told_s - shift_s) < SHIFT_S / 2
            plane.drain("a", "b")
            wait_until(lambda: all(on_c(ruled_stage)), "everything to be on c", limit_s=60)
            epoch = plane.watcher.last().epoch
            for worker in ("w1", "w2"):
                plane.worker(worker)
            wait_until(lambda: len(plane.processes) == 3, "the others")
            plane.end("shifted")
            plane.back_after(time.monotonic(), epoch)
    finally:
        with_right_time = [name for name in ("w1", "w2") if name not in plane.processes]
        for worker in with_right_time:
            plane.worker(worker)
        if "shifted" in plane.processes:
            plane.end("shifted")
