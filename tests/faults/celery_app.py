"""The product's Celery application, with agents reached by their test doors instead of through Ray.

All else is as in production: worker, queue, task, lease, loop, database. ``FAULTS_FOLDER`` holds
``doors.json`` (agent -> its control socket), and orders to strike in the middle of a tick:
``kill-after`` (so many commands, then SIGKILL to itself), ``stop-before`` (SIGSTOP to itself before
commands go out). ``FAULTS_CLOCK_SHIFT_S`` sets the clock of this process, but not its monotonic one.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import time_machine
import zmq
from celery.signals import worker_init

from console.celery import app
from controlplane.fleet.agents import FakeAgentClient, MoveCommand
from engine_agents.messages import MigrateOutAnswer, RequestInfo, encode

__all__ = ["app"]

if shift_s := float(os.environ.get("FAULTS_CLOCK_SHIFT_S", "0")):
    time_machine.travel(datetime.now(tz=UTC) + timedelta(seconds=shift_s), tick=True).start()

SILENT = "unreachable: does not answer"


class DoorAgents(FakeAgentClient):
    """Real agents behind the doors of :mod:`tests.faults.agent_process`; commands go out in parallel."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def migrate_out(self, commands: Sequence[MoveCommand], *, timeout_s: float) -> list[MigrateOutAnswer]:
        if not commands:
            return []
        if self._ordered("stop-before") is not None:
            os.kill(os.getpid(), signal.SIGSTOP)
        left = self._ordered("kill-after")
        if left is not None:
            for command in commands[: int(left or 0)]:
                self._move(command, timeout_s)
            os.kill(os.getpid(), signal.SIGKILL)
        with ThreadPoolExecutor(len(commands)) as pool:
            return list(pool.map(lambda command: self._move(command, timeout_s), commands))

    def set_accepting(
        self, wishes: Mapping[str, bool], *, lease_epoch: int, timeout_s: float
    ) -> dict[str, str]:
        problems = {}
        for name, wish in wishes.items():
            good, result = self._ask(name, timeout_s, "set_accepting", wish, lease_epoch)
            if not good or not result:
                problems[name] = SILENT if not good else f"stale epoch {lease_epoch}"
        return problems

    def requests(self, instance_ids: Sequence[str], *, timeout_s: float) -> dict[str, list[RequestInfo]]:
        return {}

    def _move(self, command: MoveCommand, timeout_s: float) -> MigrateOutAnswer:
        good, result = self._ask(command.source_id, timeout_s, "migrate_out", encode(command.message))
        if not good:
            return MigrateOutAnswer(accepted=False, reason=result)
        return msgspec.msgpack.decode(result, type=MigrateOutAnswer)

    def _ask(self, name: str, timeout_s: float, *words: Any) -> tuple[bool, Any]:
        path = self._folder / "doors.json"
        doors = json.loads(path.read_text()) if path.exists() else {}
        if name not in doors:
            return False, SILENT
        with zmq.Context.instance().socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(f"ipc://{doors[name]}")
            socket.send(msgspec.msgpack.encode(list(words)))
            if not socket.poll(1e3 * timeout_s):
                return False, SILENT
            good, result = msgspec.msgpack.decode(socket.recv())
        return bool(good), result

    def _ordered(self, name: str) -> str | None:
        """Take an order; it is carried out once."""
        path = self._folder / name
        with contextlib.suppress(FileNotFoundError):
            taken = path.rename(path.with_suffix(".taken"))
            return taken.read_text()
        return None


@worker_init.connect
def use_doors(**_: Any) -> None:
    from controlplane.rebalancing import tasks

    folder = Path(os.environ["FAULTS_FOLDER"])
    tasks.ray_agents = lambda: DoorAgents(folder)
    tasks.connection.ready = lambda **_: True
