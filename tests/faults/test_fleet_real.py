"""The whole system with real engines: a rolling restart and a scale 1 → 3 → 1 while a load is replayed."""

from __future__ import annotations

import concurrent.futures
import json
from collections.abc import Iterator

import pytest

from tests.integration.running import Stack, manage

# long: eight engines start one after the other
pytestmark = [
    pytest.mark.engine,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),
]
WAIT_S = "600"
REPLAY_S = 150


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("state"))
    stack.start()
    try:
        stack.wait_for("Ctrl-C stops everything")
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


def fleet(stack: Stack, *words: str) -> str:
    done = manage(stack.state_dir, "fleet", *words, timeout_s=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_rolling_restart_and_a_scale_lose_no_request_of_a_replayed_workload(stack, matrix, seed):
    with matrix.trial(28, "real engines: rolling restart, then 1 to 3 to 1, under replay", seed) as trial:
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            load = ["--mix", "S-S", "--rate", "1.5", "--duration", str(REPLAY_S), "--seed", str(seed)]
            replay = beside.submit(stack.replay, *load, "--max-open", "24")
            fleet(stack, "rolling-restart", "--engine-args", '{"max_num_seqs": 24}', "--wait", WAIT_S)
            for count in (1, 3, 1):
                fleet(stack, "scale", str(count), "--wait", WAIT_S)
            figures = replay.result()
        trial.requests = figures["classes"]["all"]["requests"]
        trial.failed = sum(figures["failures"].values())
        listed = json.loads(fleet(stack, "list", "--json"))
        assert (listed["pools"][0]["target"], listed["pools"][0]["ready"]) == (1, 1)
        trial.note(migrations=figures["fleet"]["migrations"])
