"""Failpoints: nothing without rules, and exactly what the rules say with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from engine_agents import failpoints
from engine_agents.failpoints import FailpointError, Rule


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.arm("")


def test_rules_are_read_as_documented() -> None:
    text = "source.commit:kill, destination.adopt.done:delay=1.5@2,transfer.chunk:corrupt@3"
    assert failpoints.parse(text) == [
        Rule("source.commit", "kill"),
        Rule("destination.adopt.done", "delay", 1.5, 2),
        Rule("transfer.chunk", "corrupt", 0.0, 3),
    ]


@pytest.mark.parametrize("text", ["source.commit", "source.commit:burn", "a:kill@0", "a:delay=x", "A B:kill"])
def test_what_cannot_be_read_is_named_and_changes_nothing(text: str) -> None:
    failpoints.arm("source.commit:drop")
    with pytest.raises(ValueError, match=r"failpoints: '.+' is not point:action"):
        failpoints.arm(text)
    assert failpoints.pass_by("source", "commit")


async def test_without_rules_nothing_happens() -> None:
    data = b"12345678"
    assert not await failpoints.reach("source", "commit") and not failpoints.pass_by("engine.step")
    assert failpoints.altered("transfer.chunk", data) is data and not failpoints.hits


async def test_only_the_nth_time_counts() -> None:
    failpoints.arm("source.commit:drop@2")
    assert [await failpoints.reach("source", "commit") for _ in range(3)] == [False, True, False]


async def test_names_of_several_words_are_one_point() -> None:
    failpoints.arm("source.ask_grant.done:drop")
    assert await failpoints.reach("source", "ask grant", "done")


def test_bytes_are_altered_by_one_bit_or_cut() -> None:
    data = bytes(range(64))
    failpoints.arm("transfer.chunk:corrupt@1,transfer.chunk:truncate@2")
    flipped = failpoints.altered("transfer.chunk", data)
    assert sum((one ^ other).bit_count() for one, other in zip(data, flipped, strict=True)) == 1
    assert failpoints.altered("transfer.chunk", data) == data[:32]
    assert failpoints.altered("transfer.chunk", data) == data


def test_raising_says_where() -> None:
    failpoints.arm("engine.step:raise")
    with pytest.raises(FailpointError, match=r"engine\.step"):
        failpoints.pass_by("engine.step")


def test_permission_alone_arms_nothing() -> None:
    failpoints.arm(failpoints.PERMITTED)
    assert not failpoints.pass_by("source", "commit")


@pytest.mark.parametrize("when", ["", "=0.05"])
def test_kill_is_a_real_signal(when: str) -> None:
    program = (
        "import time; from engine_agents import failpoints; "
        f"failpoints.arm('source.commit:kill{when}'); failpoints.pass_by('source', 'commit'); time.sleep(60)"
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert ended.returncode == -signal.SIGKILL


def test_stop_holds_the_process_until_it_is_let_go_on() -> None:
    program = (
        "from engine_agents import failpoints; failpoints.arm('engine.step:stop'); "
        "failpoints.pass_by('engine.step')"
    )
    child = subprocess.Popen([sys.executable, "-c", program])
    deadline_s = time.monotonic() + 60
    while not os.WIFSTOPPED(os.waitpid(child.pid, os.WUNTRACED | os.WNOHANG)[1]):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGCONT)
    assert child.wait(timeout=60) == 0
