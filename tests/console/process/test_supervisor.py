"""The supervisor with real processes: small Python scripts that behave and misbehave."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from console.process import processes
from console.process.child import Child
from console.process.failure import StackError
from console.process.output import Terminal
from console.process.supervisor import Supervisor

SLEEP = "import time; print('here', flush=True); time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
CHILD = "[sys.executable, '-c', 'import time; time.sleep(600)']"
PARENT = f"import subprocess, sys; subprocess.Popen({CHILD}); {SLEEP}"


def python(name: str, code: str, **properties) -> Child:
    return Child(name=name, command=(sys.executable, "-c", code), **properties)


@pytest.fixture
def screen() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(autouse=True)
def spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor ends every process below its own; here that is the test run's, with its servers."""
    before = {each.pid for each in processes.descendants()}
    everybody = processes.descendants
    monkeypatch.setattr(
        processes, "descendants", lambda: [each for each in everybody() if each.pid not in before]
    )


@pytest.fixture
def make_supervisor(screen: io.StringIO, tmp_path: Path):
    def make() -> Supervisor:
        terminal = Terminal(Console(file=screen, width=200))
        return Supervisor(terminal, log_dir=tmp_path, project_dir=tmp_path)

    return make


async def eventually(condition, limit_s: float = 30.0) -> None:
    deadline = asyncio.get_running_loop().time() + limit_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


async def test_a_child_is_ready_once_it_has_said_so(make_supervisor, tmp_path: Path) -> None:
    supervisor = make_supervisor()
    await supervisor.start(python("talker", SLEEP, ready_line="here"))
    assert (tmp_path / "talker.log").read_text() == "here\n"
    assert await supervisor.stop() == []


async def test_a_killed_child_is_started_again_and_said_so(make_supervisor, screen: io.StringIO) -> None:
    supervisor = make_supervisor()
    await supervisor.start(python("phoenix", SLEEP, ready_line="here"))
    first = supervisor.pids()["phoenix"]
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: supervisor.pids()["phoenix"] != first)
    assert "phoenix was killed by SIGKILL" in screen.getvalue()
    await supervisor.stop()


async def test_what_cannot_be_restarted_ends_everything_with_a_sentence(make_supervisor) -> None:
    supervisor = make_supervisor()
    await supervisor.start(python("base", SLEEP, ready_line="here", restartable=False))
    os.kill(supervisor.pids()["base"], signal.SIGKILL)
    sentence = await asyncio.wait_for(supervisor.failure, 30)
    assert "base was killed by SIGKILL" in sentence and "stopping everything" in sentence
    await supervisor.stop()


async def test_a_crash_loop_is_given_up(make_supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("console.process.restarts.FIRST_PAUSE_S", 0.01)
    supervisor = make_supervisor()
    await supervisor.start(python("crasher", "import time; time.sleep(0.3); raise SystemExit('no luck')"))
    sentence = await asyncio.wait_for(supervisor.failure, 60)
    assert "crasher ended with code 1" in sentence and "no luck" in sentence
    await supervisor.stop()


async def test_a_child_that_dies_before_it_is_ready_is_told_with_its_last_words(make_supervisor) -> None:
    supervisor = make_supervisor()
    with pytest.raises(StackError, match=r'early ended with code 3.*"bad luck".*look there'):
        await supervisor.start(
            python("early", "print('bad luck'); raise SystemExit(3)", ready_line="here", hint="look there")
        )
    await supervisor.stop()


async def test_a_child_that_never_gets_ready_is_told(make_supervisor) -> None:
    supervisor = make_supervisor()
    with pytest.raises(StackError, match="slow was not ready within 1 s"):
        await supervisor.start(python("slow", SLEEP, ready_line="never said", ready_within_s=1.0))
    await supervisor.stop()


async def test_a_command_that_does_not_exist_is_told(make_supervisor) -> None:
    supervisor = make_supervisor()
    with pytest.raises(StackError, match=r"ghost.*No such file"):
        await supervisor.start(Child(name="ghost", command=("/nonexistent/program",), ready_line="here"))
    await supervisor.stop()


async def test_stop_leaves_no_descendant_not_even_a_deaf_one_or_an_orphan(make_supervisor) -> None:
    supervisor = make_supervisor()
    await supervisor.start(python("deaf", DEAF, ready_line="here", grace_s=0.2))
    await supervisor.start(python("parent", PARENT, ready_line="here"))
    below = [
        child
        for child in psutil.Process().children(recursive=True)
        if "sleep(600)" in " ".join(child.cmdline())
    ]
    assert len(below) == 3
    assert await supervisor.stop() == []
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in below)


async def test_stages_end_in_order(make_supervisor, tmp_path: Path) -> None:
    log = tmp_path / "order"
    code = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        "    open({log!r}, 'a').write({name!r} + ' ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('here', flush=True)\n"
        "time.sleep(600)\n"
    )
    supervisor = make_supervisor()
    for name, stage in (("store", 3), ("base", 2), ("door", 1)):
        text = code.format(log=str(log), name=name)
        await supervisor.start(python(name, text, ready_line="here", stage=stage))
    await supervisor.stop()
    assert log.read_text().split() == ["door", "base", "store"]
