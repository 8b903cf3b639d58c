"""The real stack as a person starts it, in a process of its own, with a state directory of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parent.parent.parent
UP_WITHIN_S = 800.0
DOWN_WITHIN_S = 60.0
"""Far more than the promised 15 s: tests say what happens, benchmarks how fast."""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def eventually(condition: Callable[[], Any], limit_s: float, what: str) -> Any:
    deadline_s = time.monotonic() + limit_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"{what} did not happen within {limit_s:.0f} s"
        time.sleep(0.2)


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def manage(
    state_dir: Path, *arguments: str, timeout_s: float = 400.0, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``manage.py`` to its end on this state."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env=environment(state_dir, **variables),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def environment(state_dir: Path, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"REDIS_URL", "DATABASE_URL"}}
    return {
        # What vLLM finds out about models is the same for every state: it need not find out again.
        "VLLM_CACHE_ROOT": str(Path.home() / ".cache" / "vllm"),
        **kept,
        "DJANGO_SETTINGS_MODULE": "console.settings.development",
        "LLUMDECK_STATE_DIR": str(state_dir),
        "COLUMNS": "200",
        **variables,
    }


@dataclass
class Stack:
    """``manage.py up`` as a child, and what it prints."""

    state_dir: Path
    console_port: int = 0
    gateway_port: int = 0
    arguments: tuple[str, ...] = ()
    lines: list[str] = field(default_factory=list)

    def start(self) -> None:
        if not self.console_port:
            self.console_port, self.gateway_port = free_ports(2)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "manage.py", "up", *self.arguments),
                *("--console-port", str(self.console_port), "--gateway-port", str(self.gateway_port)),
            ],
            cwd=PROJECT,
            env=environment(self.state_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, limit_s: float = UP_WITHIN_S) -> re.Match[str]:
        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.output)
            assert match or self.process.poll() is None, (
                f"it ended while waiting for {pattern!r}:\n{self.output}"
            )
            return match

        return eventually(found, limit_s, f"{pattern!r} in the output")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal it once and wait for its end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(DOWN_WITHIN_S)
        self._reader.join(10)
        return status

    @property
    def console(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def key(self) -> str:
        return str(json.loads((self.state_dir / "tenant-keys.json").read_text())["demo"])

    def processes(self) -> list[psutil.Process]:
        """Everything below it. Celery and Redis overwrite their environment, so only descent tells."""
        return [each for each in psutil.Process(self.process.pid).children(recursive=True) if is_alive(each)]

    def child(self, word: str) -> psutil.Process:
        """The first process below it with ``word`` in its command line."""
        found = [each for each in self.processes() if word in command_line(each)]
        assert found, f"no process {word!r} among {[command_line(each) for each in self.processes()]}"
        return found[0]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(
            f"file:{self.state_dir / 'llumdeck.sqlite3'}?mode=ro", uri=True, timeout=10
        )
        try:
            return database.execute(query).fetchall()
        finally:
            database.close()

    def wait_for_requests(self, more: int) -> None:
        """Until so many requests more have come to their end."""
        count = "select count(*) from records_requestrecord"
        before = self.rows(count)[0][0]
        eventually(lambda: self.rows(count)[0][0] >= before + more, 120, f"{more} requests")

    def instance_states(self) -> dict[str, str]:
        return dict(self.rows("select instance_id, state from fleet_instance"))

    def replay(self, *arguments: str) -> dict[str, Any]:
        """Drive it; returns the figures. Fails if any request failed."""
        figures = self.state_dir / "replay.json"
        done = manage(self.state_dir, "replay", "--json", str(figures), "--every", "5", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr + "\n".join(self.lines[-40:])
        return dict(json.loads(figures.read_text()))
