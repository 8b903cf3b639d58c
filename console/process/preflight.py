"""Looked at before anything is started, so that what would fail later is said at once, in one sentence."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from console.process import probes
from console.process.failure import StackError

BASE_MIB = 2300
"""Console, gateway, workers, Ray, Redis."""
ENGINE_MIB = 1000
"""One engine with the tiny model, beside its KV cache."""
HUB_NAME = re.compile(r"^[\w.-]+/[\w.-]+$")


def check_ports(host: str, ports: dict[str, int]) -> None:
    """Every port free and none twice; ``ports`` maps the option's name to the number."""
    if len(set(ports.values())) < len(ports):
        raise StackError(f"{' and '.join(ports)} must differ: both are {next(iter(ports.values()))}.")
    for option, port in ports.items():
        if not is_free(host, port):
            raise StackError(
                f"port {port} is taken by {holder_of(port)}: end it, or choose another with {option}=…"
            )


def is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise StackError(f"port {port} may not be used by this user: choose one from 1024 on.") from None
        except socket.gaierror:
            raise StackError(f"HOST={host} is no address of this machine.") from None
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise StackError(f"HOST={host} is no address of this machine.") from None
            return False
    return True


def holder_of(port: int) -> str:
    """Who listens there, as far as we may see."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another process"


def check_memory(engines: int, kv_memory_bytes: int) -> None:
    """Enough free memory for so many engines, judged by what one is known to take."""
    needed_mib = BASE_MIB + engines * (ENGINE_MIB + kv_memory_bytes // 2**20)
    available_mib = available_memory_bytes() // 2**20
    if needed_mib > available_mib:
        raise StackError(
            f"{engines} engines need about {needed_mib / 1024:.1f} GiB of memory and "
            f"{available_mib / 1024:.1f} GiB are free: end something, take fewer with ENGINES=1, or try all "
            "the same with ARGS=--ignore-memory."
        )


def available_memory_bytes() -> int:
    """Of the machine, or of the control group that we live in where that is less."""
    available = int(psutil.virtual_memory().available)
    return min([available, *cgroup_rooms()])


def cgroup_rooms(root: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit, used = (root / limit_name).read_text().strip(), (root / used_name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit() and used.isdigit():
            yield int(limit) - int(used)


def check_model(model: str) -> None:
    """A folder that holds a model, or what looks like a hub's name for one."""
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise StackError(f"MODEL={model} is a folder without config.json: name the folder of a model.")
    elif path.is_absolute() or model.startswith((".", "~")) or not HUB_NAME.match(model):
        raise StackError(
            f"MODEL={model} is neither a folder nor a hub's name: give a path that exists, or OWNER/NAME."
        )


async def check_redis() -> None:
    """The given Redis answers."""
    problem = await probes.redis_answers()
    if problem:
        raise StackError(f"REDIS_URL: Redis {problem}: start it, or unset REDIS_URL to have one embedded.")


async def check_ray(address: str) -> None:
    """Something listens at the given Ray's address."""
    parts = urlsplit(address if "//" in address else f"//{address}")
    problem = "no HOST:PORT in it"
    if parts.hostname and parts.port:
        problem = await probes.listens(parts.hostname, parts.port)()
    if problem:
        raise StackError(
            f"RAY_ADDRESS={address}: {problem}: start that cluster, or unset RAY_ADDRESS to have a Ray here."
        )
