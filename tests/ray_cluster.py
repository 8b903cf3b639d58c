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

from console.process.child import Child
from console.process.options import Options
from console.process.stack import RAY_ENVIRONMENT, ray_head_child, ray_node_child

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


class TwoNodes:
    """Ray as `make up` starts it, with a second node: a head without agents, which may go and come back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = _free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._options = Options(state_dir=folder, run_dir=folder, project_dir=ROOT)
        self._environment = {**RAY_ENVIRONMENT, **_ENVIRONMENT}
        self._head: subprocess.Popen[bytes] | None = None
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._heads = 0

    def start(self) -> None:
        self.start_head()
        self.start_node("a", zone="a", resources='{"fast_disk": 1}')
        self.start_node("b", zone="b", resources="{}")

    def start_head(self) -> None:
        self._heads += 1
        child = ray_head_child(self._options, self._port, self._environment)
        self._head = self._start(child, f"head-{self._heads}")

    def kill_head(self) -> None:
        """Every process of the head's, at once and without a word."""
        assert self._head is not None
        _end(self._head)
        self._head = None

    def start_node(self, name: str, *, zone: str, resources: str) -> None:
        child = ray_node_child(self._options, self._port, self._environment)
        self._nodes[name] = self._start(child, name, "--labels", f"zone={zone}", "--resources", resources)

    def agents_on(self, name: str) -> set[int]:
        """Processes of agents on a node: they are in the session that the node began."""
        session = self._nodes[name].pid
        found = set()
        for process in psutil.Process(session).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == session and "EngineAgent" in process.cmdline()[0]:
                    found.add(process.pid)
        return found

    def stop(self) -> None:
        for process in (*self._nodes.values(), self._head):
            if process is not None:
                _end(process)

    def _start(self, child: Child, name: str, *more: str) -> subprocess.Popen[bytes]:
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*child.command, *more],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **child.environment},
                start_new_session=True,
            )
        _wait_for(log, process)
        return process


@contextlib.contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    ray = TwoNodes(folder)
    try:
        ray.start()
        yield ray
    finally:
        ray.stop()
        shutil.rmtree(folder, ignore_errors=True)


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
