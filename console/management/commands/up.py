"""``manage.py up``: the whole of Llumdeck on this machine, in the foreground; Ctrl-C ends it all."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rich.console import Console

from console.process.options import POOL, TINY_MODEL, Options, PoolOptions
from console.process.output import Terminal
from console.process.run import Workload, run

LOCAL = "127.0.0.1"
POOL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")
LOOPBACK = {LOCAL, "localhost", "::1"}


class Command(BaseCommand):
    help = "Run everything on this machine: Redis, Ray, engines, gateway, console, workers. Ctrl-C ends it."
    requires_system_checks = []
    workload: Workload | None = None

    def add_arguments(self, parser: ArgumentParser) -> None:
        self.add_fleet_arguments(parser)
        add = parser.add_argument
        add("--host", default=LOCAL, help=f"address to listen on (default {LOCAL})")
        add("--console-port", type=_port, default=8800, help="default 8800")
        add("--gateway-port", type=_port, default=8801, help="default 8801")
        add("--gateways", type=_count, default=1, help="gateway processes per pool (default 1)")
        add(
            "--pool",
            type=_pool,
            action="append",
            default=[],
            metavar="NAME=MODEL[:ENGINES]",
            help="one more pool beside 'default' (may be repeated); MODEL: tiny, a folder or a hub name",
        )
        add("--ignore-memory", action="store_true", help="start even if memory looks too little")

    def add_fleet_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--engines", type=_count, default=2, help="vLLM engines to run (default 2)")
        add("--model", default=TINY_MODEL, help="folder or hub name; default: a tiny one made here")
        add("--served-model", default="", help="what clients ask for; default: the model's own name")
        add("--max-model-len", type=int, default=0, help="longest request in tokens; default: the model's")
        add("--kv-memory-mib", type=_count, default=0, help="KV cache per engine; default: by model, machine")

    def handle(self, *args: Any, **given: Any) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # our own probes are no news
        terminal = Terminal(Console(highlight=False))
        status = asyncio.run(run(options_from(given), terminal, self.workload))
        if status:
            sys.exit(status)


def options_from(given: dict[str, Any]) -> Options:
    host = given.get("host", LOCAL)
    return Options(
        state_dir=settings.STATE_DIR,
        run_dir=settings.RUN_DIR,
        project_dir=settings.BASE_DIR,
        engines=given["engines"],
        model=given["model"],
        served_model=given["served_model"],
        max_model_len=given["max_model_len"],
        kv_memory_mib=given["kv_memory_mib"],
        host=host,
        console_port=given.get("console_port", 0),
        gateway_port=given.get("gateway_port", 0),
        redis_url="" if settings.REDIS_EMBEDDED else settings.REDIS_URL,
        ray_address=settings.RAY_ADDRESS,
        gpus=int(has_nvidia_gpu()),
        ignore_memory=given.get("ignore_memory", False),
        gateways=given.get("gateways", 1),
        more_pools=_pools(given.get("pool", [])),
        allowed_hosts=_allowed_hosts(host),
    )


def has_nvidia_gpu() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/version").exists()


def _allowed_hosts(host: str) -> str:
    """Listening beyond this machine, the console is opened under the machine's names, too."""
    if host in LOOPBACK:
        return ""
    return ",".join([*settings.ALLOWED_HOSTS, host, socket.gethostname()])


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1_000_000:
        raise ValueError
    return value


def _pool(text: str) -> PoolOptions:
    name, _, rest = text.partition("=")
    model, separator, engines = rest.rpartition(":")
    if not separator or not engines.isdigit():
        model, engines = rest, "1"
    if not POOL_NAME.fullmatch(name) or not model or name == POOL:
        raise ArgumentTypeError(
            "give NAME=MODEL or NAME=MODEL:ENGINES; NAME in lower-case letters and digits"
        )
    return PoolOptions(name, model, _count(engines))


def _pools(given: list[PoolOptions]) -> tuple[PoolOptions, ...]:
    names = [each.name for each in given]
    if len(set(names)) != len(names):
        raise CommandError("--pool: each name once")
    return tuple(given)


def _port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65_535:
        raise ValueError
    return value
