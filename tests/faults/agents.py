"""The test's side of agents that run as processes of their own: start, ask, kill, stop, replace."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from engine_agents.config import AgentConfig
from engine_agents.messages import MigrateOut, MigrateOutAnswer, encode

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90.0
ANSWER_LIMIT_MS = 30_000
PIECE_MS = 200


class AgentGoneError(Exception):
    """It does not answer: killed, stopped, or its engine has died."""


class Agent:
    """One process. Every method but :meth:`alive` raises :class:`AgentGoneError` when it is gone."""

    def __init__(self, name: str, pid: int, control: str, config: AgentConfig) -> None:
        self.name, self.pid, self.config = name, pid, config
        self._control = control
        self.stopped = False
        self._lock = threading.Lock()

    def wait_ready(self) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def ready() -> bool:
            assert self.alive(), f"{self.name} ended while starting; see its log"
            with contextlib.suppress(AgentGoneError):
                found.update(self.ask("describe", limit_ms=1_000))
            return bool(found)

        wait_until(ready, f"{self.name} to start")
        return found

    def ask(self, command: str, *arguments: Any, limit_ms: int = ANSWER_LIMIT_MS) -> Any:
        """Raises ``ValueError`` for what the agent refuses."""
        with self._lock, zmq.Context.instance().socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(f"ipc://{self._control}")
            socket.send(msgspec.msgpack.encode([command, *arguments]))
            waited_ms = 0
            while not socket.poll(PIECE_MS):
                waited_ms += PIECE_MS
                if waited_ms >= limit_ms or not self.alive():
                    raise AgentGoneError(f"{self.name} does not answer {command!r}")
            good, result = msgspec.msgpack.decode(socket.recv())
        if not good:
            raise ValueError(result)
        return result

    def migrate_out(self, command: MigrateOut) -> MigrateOutAnswer:
        answer = self.ask("migrate_out", encode(command))
        return msgspec.msgpack.decode(answer, type=MigrateOutAnswer)

    def arm(self, rules: str) -> None:
        self.ask("set_failpoints", rules)

    # ---------------------------------------------------------------- the process

    def alive(self) -> bool:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        return False

    def ready(self) -> bool:
        """It lives, is not held up, and has its engine loaded."""
        return self.alive() and not self.is_stopped() and Path(self._control).exists()

    def is_stopped(self) -> bool:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
        return False

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        wait_until(lambda: not self.alive(), f"{self.name} to die")

    def stop(self) -> None:
        """SIGSTOP: it hangs, its sockets stay open."""
        self._signal(signal.SIGSTOP)
        self.stopped = True

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)
        self.stopped = False

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Nursery:
    """Forks agents from a process that has everything loaded (see :mod:`tests.faults.zygote`)."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder, self._kind = folder, kind
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote", str(folder), kind],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "zygote.log").open("wb"),
            text=True,
        )
        self._ready = False
        self.born: list[Agent] = []

    def start(self, name: str, config: AgentConfig) -> Agent:
        """Fork one; :meth:`Agent.wait_ready` tells when it serves."""
        assert self._process.stdin is not None
        if not self._ready:
            self._answer("ready")
            self._ready = True
        control = str(self._folder / f"c{next(self._numbers)}")
        order = {"name": name, "config": msgspec.to_builtins(config), "control": control}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        agent = Agent(name, int(self._answer()), control, config)
        self.born.append(agent)
        return agent

    def _answer(self, wanted: str = "") -> str:
        """Libraries may print while they load; an answer is what was asked for, or a number."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            word = line.strip()
            if word == wanted or (not wanted and word.isdigit()):
                return word
        raise AgentGoneError(f"the nursery has died; see {self._folder / 'zygote.log'}")

    def close(self) -> None:
        for agent in self.born:
            if agent.alive():
                agent._signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait(timeout=30)


def wait_until(condition: Callable[[], object], what: str, limit_s: float = PATIENCE_S) -> float:
    """Seconds waited; fails after ``limit_s``."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < limit_s, f"waited {limit_s:g} s in vain for {what}"
        time.sleep(0.01)
    return time.monotonic() - began_s
