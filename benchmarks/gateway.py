"""What the gateway's own part costs: CPU per request and per streamed token, beside vLLM's own.

    python -m benchmarks.gateway [--quick] [--reps 5] [--router NAME=COMMAND] [--json FILE]

Servers over simulated engines of the same pace, all in processes of their own:

``ours``   the whole gateway process: key, class, limits, routing, journal, records handed over
``bare``   vLLM's app, input and output processor on the same links, nothing else: what our part is added to
``vllm``   vLLM's own API server process, over a stub of its engine core
NAME       another router in front of ``bare``, by ``--router`` (``{worker}`` and ``{port}`` are filled in)

Runs alternate; figures are CPU time of the server's process tree, as medians of the
repetitions' differences and ratios. ``shim_*`` is ours less bare, ``ratio_per_token`` and
``burst_ttft_ratio`` are ours over vllm. The model is the generated one; its tokens are not text.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import shlex
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn

from controlplane.gateway.app import Door
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.links import Links, Self, Target
from controlplane.gateway.process import GatewayProcess, Options, Ports, Rules
from controlplane.tenancy.types import ClassTerms, KeyIdentity
from engine_agents.config import AgentConfig
from engine_agents.messages import Add, GatewayStatus, InstanceStatus, Ready, Step, ToGateway, encode
from engine_agents.vllm_engine.frontend_port import EngineClientPort, FrontHalf, FrontHalfConfig, NewRequest

MODEL, POOL, KEY = "tiny", "pool", "benchmark-key"
STEP_MS = 20.0
IDLE_STEP_MS = 120_000.0
TOKENS = 100
CLASSES = {"standard": ClassTerms(1, 2000, 80, None, "default")}
IDENTITY = KeyIdentity(1, "bench", 1, "bench", "standard", ("standard",), CLASSES)
START_LIMIT_S = 300.0


# ---------------------------------------------------------------- the processes


def run_agent(port: int, step_ms: float) -> None:
    """A simulated engine behind the real agent: a token per step for all."""
    from engine_agents.engines.paced import build
    from engine_agents.serve import AgentServer

    async def serve() -> None:
        pace = {
            "base_step_ms": step_ms,
            "max_num_seqs": 20_000,
            "per_sequence_ms": 0.0,
            "per_prefill_token_ms": 0.0,
        }
        config = AgentConfig(
            instance_id="a",
            pool=POOL,
            served_model=MODEL,
            model="paced",
            redis_url="",
            engine="paced",
            engine_args=pace,
            kv_memory_bytes=512 * 2**20,
            data_port=port,
        )
        await AgentServer(config, build(config)).start()
        await asyncio.Event().wait()

    asyncio.run(serve())


async def build_front(config: FrontHalfConfig, port: EngineClientPort) -> FrontHalf:
    from engine_agents.vllm_engine.frontend import build_front_half

    return await build_front_half(config, port)


class BarePort:
    """The reference: passes requests and outputs on, and keeps nothing."""

    front: FrontHalf
    links: Links

    def __init__(self) -> None:
        self._seq = 0

    def check_admission(self, count: int) -> None:
        """Everybody may."""

    def add(self, request: NewRequest) -> None:
        self._seq += 1
        message = Add(
            request_id=request.request_id, dispatch=1, seq=self._seq, engine_request=request.engine_request
        )
        self.links.send("a", message)

    def abort(self, request_ids: Sequence[str]) -> None:
        self.links.abort("a", [f"{name}#1" for name in request_ids])

    def stopped(self, request_ids: Sequence[str]) -> None:
        self.abort(request_ids)

    def link_ready(self, instance_id: str, ready: Ready) -> None:
        """Nothing to do."""

    def link_lost(self, instance_id: str, reason: str) -> None:
        raise SystemExit(f"the engine was lost: {reason}")

    def link_message(self, instance_id: str, message: ToGateway) -> None:
        if isinstance(message, Step):
            outputs = self.front.decode(message.outputs)
            for output in outputs:
                output.request_id = output.request_id.rpartition("#")[0]
            self.front.deliver(outputs)


async def serve_bare(config: FrontHalfConfig, agent_port: int, port: int) -> None:
    passing = BarePort()
    passing.front = await build_front(config, passing)
    me = Self("bare", "1", passing.front.engine_version, MODEL, passing.front.max_model_len)
    passing.links = Links(me, passing, time.monotonic)
    passing.links.follow([Target("a", f"tcp://127.0.0.1:{agent_port}", "")])
    await serve_http(passing.front.app, port)


async def serve_ours(config: FrontHalfConfig, agent_port: int, port: int) -> None:
    async def follow(view: FleetView, on_change: Callable[[], None]) -> None:
        for seq in range(1, 10**9):
            # An agent that has seen all that was sent and is empty: what is measured is the asking.
            gateway = process.gateway
            seen = {process.incarnation: gateway.router._seq} if gateway is not None else {}
            raw = {b"a": encode(report(seq, agent_port, seen))}
            view.absorb(raw, now_s=time.monotonic(), wall_s=time.time())
            on_change()
            await asyncio.sleep(0.05)

    async def publish(gateway_id: str, status: Callable[[], GatewayStatus]) -> None:
        while True:
            status()
            await asyncio.sleep(1.0)

    ports = Ports(
        lookup_key=lambda raw_key, now: IDENTITY if raw_key == KEY else None,
        write_records=len,
        read_rules=lambda: Rules(classes=CLASSES),
        build_front=build_front,
        follow_fleet=follow,
        publish=publish,
        clock=time.monotonic,
        wall_clock=lambda: datetime.now(UTC),
    )
    process = GatewayProcess(Options("bench", POOL, config), ports)
    await process.start()
    await serve_http(process.door, port)


async def serve_http(app: Any, port: int) -> None:
    from controlplane.gateway.http_protocol import BoundedProtocol

    http = BoundedProtocol if isinstance(app, Door) else "httptools"
    settings = uvicorn.Config(
        app, port=port, http=http, lifespan="off", log_level="error", access_log=False, backlog=4096
    )
    await uvicorn.Server(settings).serve()


async def serve_vllm(config: FrontHalfConfig, folder: str, port: int) -> None:
    from benchmarks.vllm_stub import vllm_app

    addresses = (f"ipc://{folder}/input", f"ipc://{folder}/output")
    await serve_http(await vllm_app(config.model, MODEL, *addresses), port)


def run_stub(folder: str, step_ms: float) -> None:
    from benchmarks import vllm_stub

    vllm_stub.run_stub(f"ipc://{folder}/input", f"ipc://{folder}/output", step_ms / 1e3)


def run_server(kind: str, folder: str, agent_port: int, port: int) -> None:
    from engine_agents.vllm_engine import environment

    environment.stay_offline_for(f"{folder}/tiny")
    config = FrontHalfConfig(f"{folder}/tiny", MODEL, {"max_model_len": 2048, "dtype": "float32"})
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if kind == "vllm":
            runner.run(serve_vllm(config, folder, port))
        else:
            runner.run((serve_ours if kind == "ours" else serve_bare)(config, agent_port, port))


def report(seq: int, agent_port: int, seen: dict[str, int]) -> InstanceStatus:
    """An empty instance: what is measured is the asking, not the answer."""
    return InstanceStatus(
        instance_id="a",
        pool=POOL,
        incarnation="",
        seq=seq,
        reported_at_s=time.time(),
        state="ready",
        accepting=True,
        engine="simulated",
        engine_version="",
        served_model=MODEL,
        data_endpoint=f"tcp://127.0.0.1:{agent_port}",
        peer_endpoint="",
        block_size_tokens=16,
        total_blocks=32_768,
        used_blocks=0,
        reserved_blocks=0,
        running=0,
        waiting=0,
        per_class=[],
        head_of_line_blocks=0,
        queued_blocks=0,
        unprefilled_tokens=0,
        preempted_waiting=0,
        preemptions_total=0,
        step_ms=STEP_MS,
        tokens_per_s=0.0,
        migrations_in=0,
        migrations_out=0,
        migration_slots=2,
        seen=seen,
        lease_epoch=0,
    )


# ---------------------------------------------------------------- the client


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=300,
        limits=httpx.Limits(max_connections=512, max_keepalive_connections=512),
    )


async def one_token(http: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "prompt": "What does a request cost?", "max_tokens": 1}
    (await http.post("/v1/completions", json=body)).raise_for_status()


async def stream(http: httpx.AsyncClient, tokens: int) -> float:
    """Time to the first chunk."""
    body = {"model": MODEL, "prompt": "Tell", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    started = time.perf_counter()
    first = 0.0
    async with http.stream("POST", "/v1/completions", json=body) as reply:
        reply.raise_for_status()
        async for _ in reply.aiter_raw():
            first = first or time.perf_counter() - started
    return first


def tree(pid: int) -> list[int]:
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_s(pid: int) -> float:
    """Of all threads, from the scheduler's own count (nanoseconds; ``cpu_times`` counts by 10 ms)."""
    tasks = [task for each in tree(pid) for task in Path(f"/proc/{each}/task").glob("*/schedstat")]
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def rss_kib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / 1024


async def measure(pid: int, port: int, requests: int, streams: int) -> dict[str, float]:
    async with client(port) as http:
        gate = asyncio.Semaphore(32)

        async def gated() -> None:
            async with gate:
                await one_token(http)

        await asyncio.gather(*(one_token(http) for _ in range(8)))
        before = cpu_s(pid)
        await asyncio.gather(*(gated() for _ in range(requests)))
        per_request = (cpu_s(pid) - before) / requests
        before = cpu_s(pid)
        await asyncio.gather(*(stream(http, TOKENS) for _ in range(streams)))
        per_token = (cpu_s(pid) - before - per_request * streams) / (streams * TOKENS)
        burst = await asyncio.gather(*(stream(http, 1) for _ in range(200)))
    return {
        "cpu_us_per_request": per_request * 1e6,
        "cpu_us_per_token": per_token * 1e6,
        "burst_ttft_p50_ms": statistics.median(burst) * 1e3,
        "rss_mib": rss_kib(pid) / 1024,
    }


async def rss_per_stream(pid: int, port: int, streams: int) -> float:
    """KiB that an open stream without a token adds to the server's process."""
    body = json.dumps({"model": MODEL, "prompt": "Wait", "max_tokens": 9, "stream": True}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode()
    writers: list[asyncio.StreamWriter] = []

    async def open_one() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + body)
        writers.append(writer)

    async def open_many(count: int) -> None:
        for _ in range(0, count, 100):
            await asyncio.gather(*(open_one() for _ in range(100)))
            await asyncio.sleep(0.1)
        await settled(pid)

    await open_many(200)
    before = rss_kib(pid)
    await open_many(streams)
    grown = rss_kib(pid) - before
    for writer in writers:
        writer.transport.abort()
    return grown / streams


async def settled(pid: int) -> None:
    """Until the process has nothing more to do."""
    async with asyncio.timeout(START_LIMIT_S):
        while True:
            before = cpu_s(pid)
            await asyncio.sleep(1.0)
            if cpu_s(pid) - before < 0.1:
                return


async def wait_until_serving(port: int, path: str = "/v1/models") -> None:
    async with client(port) as http, asyncio.timeout(START_LIMIT_S):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                (await http.get(path)).raise_for_status()
                return
            await asyncio.sleep(0.5)


async def wait_until_answering(port: int) -> None:
    async with client(port) as http, asyncio.timeout(START_LIMIT_S):
        while True:
            try:
                await one_token(http)
                return
            except httpx.HTTPError:
                await asyncio.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Runs = dict[str, list[dict[str, float]]]


def paired(runs: Runs, name: str, combine: Callable[[float, float], float], other: str) -> dict[str, float]:
    values = [combine(a[name], b[name]) for a, b in zip(runs["ours"], runs[other], strict=True)]
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summary(runs: Runs) -> dict[str, Any]:
    """Medians; differences and ratios are taken within a repetition, then their median."""

    def less(name: str) -> dict[str, float]:
        return paired(runs, name, lambda ours, bare: ours - bare, "bare")

    def over(name: str) -> dict[str, float]:
        return paired(runs, name, lambda ours, vllm: ours / vllm, "vllm")

    return {
        "shim_cpu_us_per_request": less("cpu_us_per_request"),
        "shim_cpu_us_per_token": less("cpu_us_per_token"),
        "ratio_per_request": over("cpu_us_per_request"),
        "ratio_per_token": over("cpu_us_per_token"),
        "burst_ttft_ratio": over("burst_ttft_p50_ms"),
        "medians": {
            kind: {name: statistics.median(run[name] for run in found) for name in found[0]}
            for kind, found in runs.items()
        },
        "runs": runs,
        "load_average": os.getloadavg(),
        "engine": "simulated",
    }


class Bench:
    """The processes of one measurement."""

    def __init__(self, folder: str, kinds: Sequence[str], step_ms: float) -> None:
        self.ports = {kind: free_port() for kind in kinds}
        spawn = multiprocessing.get_context("spawn")
        agent_port = free_port()
        jobs: list[tuple[Any, tuple[Any, ...]]] = [(run_agent, (agent_port, step_ms))]
        if "vllm" in kinds:
            jobs.append((run_stub, (folder, step_ms)))
        jobs += [(run_server, (kind, folder, agent_port, port)) for kind, port in self.ports.items()]
        self._processes = [spawn.Process(target=job, args=args, daemon=True) for job, args in jobs]
        for process in self._processes:
            process.start()
        servers = self._processes[-len(kinds) :]
        self.pids = {kind: server.pid or 0 for kind, server in zip(kinds, servers, strict=True)}
        self._routers: list[subprocess.Popen[bytes]] = []

    async def add_router(self, name: str, command: str) -> None:
        """In front of ``bare``."""
        await wait_until_serving(self.ports["bare"])
        self.ports[name] = free_port()
        worker = f"http://127.0.0.1:{self.ports['bare']}"
        words = shlex.split(command.format(worker=worker, port=self.ports[name]))
        quiet = subprocess.DEVNULL
        router = subprocess.Popen(  # noqa: ASYNC220 - before anything is measured
            words, stdout=quiet, stderr=quiet, start_new_session=True
        )
        self._routers.append(router)
        self.pids[name] = self._routers[-1].pid

    def close(self) -> None:
        for router in self._routers:
            for pid in reversed(tree(router.pid)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
            router.wait()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(10)
            process.kill()


async def costs(folder: str, args: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(folder, ("ours", "bare", "vllm"), STEP_MS)
    try:
        for router in args.router:
            name, _, command = router.partition("=")
            await bench.add_router(name, command)
        for port in bench.ports.values():
            await wait_until_answering(port)
        runs: Runs = {kind: [] for kind in bench.ports}
        for number in range(args.reps):
            order = list(runs) if number % 2 == 0 else list(reversed(runs))
            for kind in order:
                runs[kind].append(
                    await measure(bench.pids[kind], bench.ports[kind], args.requests, args.streams)
                )
    finally:
        bench.close()
    return summary(runs)


async def memory(folder: str, streams: int) -> dict[str, float]:
    """Streams that wait for a first token which does not come."""
    bench = Bench(folder, ("ours", "bare"), IDLE_STEP_MS)
    try:
        found = {}
        for kind, port in bench.ports.items():
            await wait_until_serving(port)
            await asyncio.sleep(2.0)
            found[kind] = await rss_per_stream(bench.pids[kind], port, streams)
    finally:
        bench.close()
    return {
        "idle_streams": streams,
        "rss_kib_per_stream": found["ours"],
        "rss_kib_per_stream_bare": found["bare"],
        "rss_kib_per_stream_above_vllm": found["ours"] - found["bare"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute; noisier")
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--idle-streams", type=int, default=10_000)
    parser.add_argument("--router", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.reps, args.requests, args.streams, args.idle_streams = 2, 200, 16, 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    from engine_agents.vllm_engine.tiny_model import make_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        make_tiny_model(f"{folder}/tiny")
        result = asyncio.run(costs(folder, args))
        result |= asyncio.run(memory(folder, args.idle_streams))
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
