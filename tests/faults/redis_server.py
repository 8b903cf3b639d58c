"""A Redis of a test's own, with a password, that can be killed, restarted, paused and emptied."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import redis

from tests.conftest import REDIS_SERVER, wait_for_redis

PASSWORD = "not-so-secret"


class RedisServer:
    """Listens on a port of the loopback; its data survive a restart, as the embedded one's do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "requirepass": PASSWORD,
            "dir": str(self._folder),
            "appendonly": "yes",
            "save": "",
            "loglevel": "warning",
        }
        words = [word for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [str(REDIS_SERVER), *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the test, which ends it
        )
        wait_for_redis(self.url)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=30)

    def pause(self, seconds: float) -> None:
        """It takes connections and answers nobody."""
        with redis.Redis.from_url(self.url) as client:
            client.execute_command("CLIENT", "PAUSE", str(int(1e3 * seconds)), "ALL")

    def empty(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
