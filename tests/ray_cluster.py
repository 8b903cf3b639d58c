"""A Ray of the tests' own: own port, own folder; ended by process, so that no other Ray is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 120.0
_ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_ADDRESS": "",
    # Else a token that lies in the home directory decides whether its clients are let in.
    "RAY_AUTH_MODE": "disabled",
}


@contextlib.contextmanager
def own_ray(cpus: int = 8) -> Iterator[str]:
    """The address of a started head node."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    port = _free_port()
    log = folder / "head.log"
    with log.open("wb") as output:
        head = subprocess.Popen(
            _command(port, folder, cpus),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_ENVIRONMENT},
            start_new_session=True,
        )
    try:
        _wait_for(log, head)
        yield f"127.0.0.1:{port}"
    finally:
        _end(head)
        shutil.rmtree(folder, ignore_errors=True)


def _command(port: int, folder: Path, cpus: int) -> list[str]:
    options = {
        "--node-ip-address": "127.0.0.1",
        "--port": str(port),
        "--temp-dir": str(folder),
        "--num-cpus": str(cpus),
        "--object-store-memory": str(100 * 2**20),
        "--include-dashboard": "false",
        "--include-log-monitor": "false",
        "--min-worker-port": "0",
        "--max-worker-port": "0",
        "--dashboard-agent-listen-port": str(_free_port()),
        "--ray-client-server-port": str(_free_port()),
        "--log-color": "false",
    }
    words = [word for item in options.items() for word in item]
    ray = Path(sys.executable).parent / "ray"
    return [str(ray), "start", "--head", "--block", "--disable-usage-stats", *words]


def _wait_for(log: Path, head: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while b"Ray runtime started" not in log.read_bytes():
        if head.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"Ray did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def _end(head: subprocess.Popen[bytes]) -> None:
    try:
        family = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=30)
    head.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
