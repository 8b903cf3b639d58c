"""The loop in real Celery workers: one leads, the other takes over, and none outstays its welcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from console.settings.env import child_environment
from controlplane.rebalancing.types import LoopStatus

# Slow: it starts real worker processes, each of which imports everything.
pytestmark = [pytest.mark.workers, pytest.mark.paced, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 120.0


@pytest.fixture
def environment(live_redis, redis_url, tmp_path) -> dict[str, str]:
    variables = child_environment(
        {
            "DJANGO_SETTINGS_MODULE": "console.settings.development",
            "LLUMDECK_STATE_DIR": str(tmp_path),
            "DATABASE_URL": f"sqlite:///{tmp_path / 'worker.sqlite3'}",
            "REDIS_URL": redis_url,
            "RAY_ADDRESS": "127.0.0.1:1",
            "LLUMDECK_LEASE_TTL_MS": "3000",
        }
    )
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "-v0"],
        cwd=ROOT,
        env=variables,
        check=True,
        timeout=PATIENCE_S,
    )
    return variables


@contextmanager
def celery(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "console", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=PATIENCE_S)


def loop_worker(environment: dict[str, str], name: str) -> Any:
    options = ("-Q", "loop", "--pool", "threads", "--concurrency", "2", "-n", f"{name}@%h")
    return celery(environment, "worker", *options, "--without-mingle", "--without-gossip")


def beat(environment: dict[str, str], name: str) -> Any:
    schedule = Path(environment["LLUMDECK_STATE_DIR"]) / name
    return celery(environment, "beat", "--schedule", str(schedule))


def eventually(client, condition: Callable[[LoopStatus], bool], what: str) -> LoopStatus:
    deadline_s = time.monotonic() + PATIENCE_S
    status = None
    while time.monotonic() < deadline_s:
        raw = client.get("llumdeck:loop:status")
        status = msgspec.json.decode(raw, type=LoopStatus) if raw else None
        if status is not None and condition(status):
            return status
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}; last was {status}")


def leading_pid(status: LoopStatus) -> int:
    return int(status.leader.split(":")[1])


def test_two_workers_and_two_beats_make_one_leader_and_a_killed_one_is_followed(environment, live_redis):
    with ExitStack() as running:
        first = running.enter_context(loop_worker(environment, "one"))
        led = eventually(live_redis, lambda status: status.tick > 2, "a first leader")
        assert leading_pid(led) == first.pid
        second = running.enter_context(loop_worker(environment, "two"))
        for name in ("beat-1", "beat-2"):
            running.enter_context(beat(environment, name))

        os.kill(first.pid, signal.SIGSTOP)
        taken = eventually(live_redis, lambda status: status.epoch > led.epoch, "a leader after a pause")
        assert leading_pid(taken) == second.pid
        os.kill(first.pid, signal.SIGCONT)
        later = eventually(live_redis, lambda status: status.tick > taken.tick + 10, "ten more ticks")
        assert (later.leader, later.epoch) == (taken.leader, taken.epoch)

        second.kill()
        again = eventually(live_redis, lambda status: status.epoch > taken.epoch, "a leader after a kill")
        assert leading_pid(again) == first.pid

        first.terminate()
        assert first.wait(timeout=PATIENCE_S) == 0
        assert live_redis.get("llumdeck:loop:lease") is None
