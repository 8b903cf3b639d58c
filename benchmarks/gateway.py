"""What the gateway's own part costs: CPU per request and per streamed token, beside vLLM's own.

    python -m benchmarks.gateway [--quick] [--reps 4] [--router NAME=COMMAND] [--json FILE]

Servers over simulated engines of the same pace, all in processes of their own:

``ours``   the whole gateway process: key, class, limits, routing, journal, records handed over
``bare``   vLLM's app, input and output processor on the same links, nothing else: what our part is added to
``vllm``   vLLM's own API server process, over a stub of its engine core
NAME       another router in front of ``bare``, by ``--router`` (``{worker}`` and ``{port}`` are filled in)

Runs alternate; figures are CPU time of the server's process tree (of a router's alone, without ``bare``
behind it), as medians of the repetitions' differences and ratios. ``shim_*`` is ours less bare,
``ratio_per_token`` and ``burst_ttft_ratio`` are ours over vllm. The model is the generated one; its tokens
are not text. What a process spends while nobody asks (its rounds) is a figure of its own and taken off.
Memory is what idle streams, that wait for a first token, add to the process; ``idle_fresh_*``
is what fresh requests feel of them, ``slow_readers_itl_p99_ratio`` what other streams feel of clients that
read a byte a second, beside as many that read at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.gateway_clients import (
    IdleStreams,
    client,
    gaps,
    one_token,
    readers,
    stream,
    tokenize_s,
    wait_until_answering,
    wait_until_serving,
)
from benchmarks.gateway_servers import STEP_MS, Bench, tree

IDLE_STEP_MS = 600_000.0
TOKENS = 100
BURST = 200
ROUNDS_S = 1.5
ROUTER_START_LIMIT_S = 45.0
FRESH_S = 5.0
SLOW_READERS, SLOW_STEP_MS = 200, 100.0
SETTLE_LIMIT_S = 300.0
OPENED_FIRST = 200
"""Idle streams that are there before memory is looked at."""
FILES_BESIDE = 500
"""Descriptors that a process needs beside its streams."""


def cpu_s(pid: int) -> float:
    """Of all threads, from the scheduler's own count (nanoseconds; ``cpu_times`` counts by 10 ms)."""
    tasks = [task for each in tree(pid) for task in Path(f"/proc/{each}/task").glob("*/schedstat")]
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


class Meter:
    """CPU that a process spends on requests: what it spends without any is taken off."""

    def __init__(self, pid: int, rounds: float = 0.0) -> None:
        self._pid, self._rounds = pid, rounds
        self._began_s, self._before_s = time.perf_counter(), cpu_s(pid)

    def used_s(self) -> float:
        spent_s = cpu_s(self._pid) - self._before_s
        return spent_s - self._rounds * (time.perf_counter() - self._began_s)


def rss_kib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1024


async def measure(pid: int, port: int, requests: int, streams: int) -> dict[str, float]:
    async with client(port) as http:
        gate = asyncio.Semaphore(32)

        async def gated() -> None:
            async with gate:
                await one_token(http)

        await asyncio.gather(*(one_token(http) for _ in range(32)))
        meter = Meter(pid)
        await asyncio.sleep(ROUNDS_S)
        rounds = meter.used_s() / ROUNDS_S
        meter = Meter(pid, rounds)
        await asyncio.gather(*(gated() for _ in range(requests)))
        per_request = meter.used_s() / requests
        meter = Meter(pid, rounds)
        await asyncio.gather(*(stream(http, TOKENS) for _ in range(streams)))
        per_token = (meter.used_s() - per_request * streams) / (streams * TOKENS)
        burst = await asyncio.gather(*(stream(http, 1) for _ in range(BURST)))
    return {
        "rounds_cpu_ms_per_s": rounds * 1e3,
        "cpu_us_per_request": per_request * 1e6,
        "cpu_us_per_token": per_token * 1e6,
        "burst_ttft_p50_ms": statistics.median(burst) * 1e3,
        "rss_mib": rss_kib(pid) / 1024,
    }


async def under_idle_streams(pid: int, port: int, streams: int) -> dict[str, float]:
    """KiB that an open stream without a token adds, and what fresh requests feel of so many."""
    idle = IdleStreams(port)
    try:
        await idle.open(OPENED_FIRST)
        await settled(pid)
        before, fresh = rss_kib(pid), await fresh_ms(port)
        await idle.open(streams - OPENED_FIRST)
        await settled(pid)
        after, beside = rss_kib(pid), await fresh_ms(port)
        if idle.waiting < streams:
            raise RuntimeError(f"only {idle.waiting} of {streams} streams are open and wait")
    finally:
        idle.close()
    return {
        "rss_kib": (after - before) / (streams - OPENED_FIRST),
        "fresh_p50_ratio": beside[0] / fresh[0],
        "fresh_p99_ratio": beside[1] / fresh[1],
    }


async def fresh_ms(port: int) -> tuple[float, float]:
    """P50 and P99 of requests that come one after the other for several seconds."""
    async with client(port) as http:
        await tokenize_s(http)
        taken = []
        until_s = time.perf_counter() + FRESH_S
        while time.perf_counter() < until_s:
            taken.append(await tokenize_s(http))
            await asyncio.sleep(0.005)
    return quantile_ms(taken, 0.5), quantile_ms(taken, 0.99)


def quantile_ms(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1e3


async def gap_p99_ms(port: int, *, slow: bool) -> float:
    """Between tokens of ordinary streams, beside so many others that read at once, or hardly at all."""
    async with readers(port, SLOW_READERS, 1_500, slow=slow), client(port) as http:
        await asyncio.sleep(2.0)
        found = await asyncio.gather(*(gaps(http, 100) for _ in range(20)))
    return quantile_ms([gap for each in found for gap in each], 0.99)


async def slow_readers(folder: str, pairs: int) -> dict[str, float]:
    """Median of paired ratios."""
    bench = Bench(folder, ("ours",), SLOW_STEP_MS)
    try:
        port = bench.ports["ours"]
        await wait_until_answering(port)
        ratios = []
        for _ in range(pairs):
            beside_good = await gap_p99_ms(port, slow=False)
            ratios.append(await gap_p99_ms(port, slow=True) / beside_good)
    finally:
        bench.close()
    return {"slow_readers": SLOW_READERS, "slow_readers_itl_p99_ratio": statistics.median(ratios)}


async def settled(pid: int) -> None:
    """Until the process has nothing more to do than its rounds."""
    async with asyncio.timeout(SETTLE_LIMIT_S):
        quiet = 0
        while quiet < 2:
            before = cpu_s(pid)
            await asyncio.sleep(1.0)
            quiet = quiet + 1 if cpu_s(pid) - before < 0.2 else 0


# ---------------------------------------------------------------- the figures


Runs = dict[str, list[dict[str, float]]]


def paired(runs: Runs, name: str, combine: Callable[[float, float], float], other: str) -> dict[str, float]:
    values = [combine(a[name], b[name]) for a, b in zip(runs["ours"], runs[other], strict=True)]
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summary(runs: Runs, routers: Sequence[str]) -> dict[str, Any]:
    """Medians; differences and ratios are taken within a repetition, then their median."""

    def less(name: str) -> dict[str, float]:
        return paired(runs, name, lambda ours, bare: ours - bare, "bare")

    def over(name: str) -> dict[str, float]:
        return paired(runs, name, lambda ours, vllm: ours / vllm, "vllm")

    medians = {
        kind: {name: statistics.median(run[name] for run in found) for name in found[0]}
        for kind, found in runs.items()
    }
    shim = {name: less(name) for name in ("cpu_us_per_request", "cpu_us_per_token")}
    return {
        "shim_cpu_us_per_request": shim["cpu_us_per_request"],
        "shim_cpu_us_per_token": shim["cpu_us_per_token"],
        "ratio_per_request": over("cpu_us_per_request"),
        "ratio_per_token": over("cpu_us_per_token"),
        "burst_ttft_ratio": over("burst_ttft_p50_ms"),
        "shim_over_router": {
            router: {name: shim[name]["median"] / medians[router][name] for name in shim}
            for router in routers
        },
        "medians": medians,
        "runs": runs,
        "load_average": os.getloadavg(),
        "engine": "simulated",
    }


async def costs(folder: str, args: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(folder, ("ours", "bare", "vllm"), STEP_MS)
    routers = dict(each.split("=", 1) for each in args.router)
    try:
        if routers:
            await wait_until_serving(bench.ports["bare"])
        for name, command in routers.items():
            bench.add_router(name, command)
            try:
                await wait_until_answering(bench.ports[name], ROUTER_START_LIMIT_S)
            except TimeoutError:
                raise SystemExit(f"--router {name}: it does not answer: {command}") from None
        for port in bench.ports.values():
            await wait_until_answering(port)
        runs: Runs = {kind: [] for kind in bench.ports}
        for number in range(args.reps):
            order = list(runs) if number % 2 == 0 else list(reversed(runs))
            for kind in order:
                pid, port = bench.pids[kind], bench.ports[kind]
                runs[kind].append(await measure(pid, port, args.requests, args.streams))
    finally:
        bench.close()
    return summary(runs, list(routers))


async def memory(folder: str, streams: int) -> dict[str, float]:
    """Streams that wait for a first token which does not come."""
    found = {}
    for kind in ("ours", "bare"):
        bench = Bench(folder, (kind,), IDLE_STEP_MS)
        try:
            await wait_until_serving(bench.ports[kind])
            await asyncio.sleep(2.0)
            found[kind] = await under_idle_streams(bench.pids[kind], bench.ports[kind], streams)
        finally:
            bench.close()
    return {
        "idle_streams": streams,
        "rss_kib_per_stream": found["ours"]["rss_kib"],
        "rss_kib_per_stream_bare": found["bare"]["rss_kib"],
        "rss_kib_per_stream_above_vllm": found["ours"]["rss_kib"] - found["bare"]["rss_kib"],
        "idle_fresh_p50_ratio": found["ours"]["fresh_p50_ratio"],
        "idle_fresh_p99_ratio": found["ours"]["fresh_p99_ratio"],
    }


def raise_file_limit(streams: int) -> None:
    """This process and each server hold a descriptor per stream."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < streams + FILES_BESIDE:
        raise SystemExit(
            f"{streams} idle streams need {streams + FILES_BESIDE} file descriptors, "
            f"the hard limit is {most}: raise it (ulimit -Hn), or give a smaller --idle-streams."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute; noisier")
    parser.add_argument("--reps", type=int, default=4)
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--streams", type=int, default=48)
    parser.add_argument("--idle-streams", type=int, default=10_000, help="0: leave memory out")
    parser.add_argument("--slow-pairs", type=int, default=1, help="0: leave slow readers out")
    parser.add_argument("--router", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.reps, args.requests, args.streams, args.idle_streams = 2, 300, 32, 500
        args.slow_pairs = 0
    if args.idle_streams and args.idle_streams <= OPENED_FIRST:
        parser.error(f"--idle-streams: more than {OPENED_FIRST}, or 0")
    return args


def main() -> None:
    args = parse()
    raise_file_limit(args.idle_streams)
    from engine_agents.vllm_engine.tiny_model import make_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        make_tiny_model(f"{folder}/tiny")
        result: dict[str, Any] = {}
        if args.reps:
            tell(result, asyncio.run(costs(folder, args)), args.json)
        if args.idle_streams:
            tell(result, asyncio.run(memory(folder, args.idle_streams)), args.json)
        if args.slow_pairs:
            tell(result, asyncio.run(slow_readers(folder, args.slow_pairs)), args.json)


def tell(result: dict[str, Any], found: dict[str, Any], file: Path | None) -> None:
    """Each part as soon as it is known; the file holds all parts so far."""
    result |= found
    print(json.dumps(found, indent=1), flush=True)
    if file is not None:
        file.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
