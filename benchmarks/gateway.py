"""What the gateway's own part costs: CPU per request and per streamed token, beside vLLM's bare layer.

    python -m benchmarks.gateway [--reps 5] [--requests 400] [--streams 32] [--json FILE]

Two servers over one and the same simulated engine, by the same links: ``ours`` is
the whole gateway process (key, class, limits, routing, journal, records handed
over), ``bare`` is vLLM's app, input and output processor on a client that only
passes messages on. Runs alternate; figures are CPU time of the server process
(its threads included), as medians of the repetitions' differences and ratios. The
model is the generated one, the engine is simulated: its tokens are not text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import uvicorn

from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.links import Links, Self, Target
from controlplane.gateway.process import GatewayProcess, Options, Ports, Rules
from controlplane.tenancy.types import ClassTerms, KeyIdentity
from engine_agents.config import AgentConfig
from engine_agents.messages import Add, GatewayStatus, InstanceStatus, Ready, Step, ToGateway, encode
from engine_agents.vllm_engine.frontend_port import EngineClientPort, FrontHalf, FrontHalfConfig, NewRequest

MODEL, POOL, KEY = "tiny", "pool", "benchmark-key"
STEP_MS = 20.0
TOKENS = 100
CLASSES = {"standard": ClassTerms(1, 2000, 80, None, "default")}
IDENTITY = KeyIdentity(1, "bench", 1, "bench", "standard", ("standard",), CLASSES)
START_LIMIT_S = 300.0


# ---------------------------------------------------------------- the processes


def run_agent(port: int) -> None:
    """A simulated engine behind the real agent; two paces: the first token at once, then one per step."""
    from engine_agents.engines.paced import build
    from engine_agents.serve import AgentServer

    async def serve() -> None:
        pace = {
            "base_step_ms": STEP_MS,
            "max_num_seqs": 512,
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
            raw = {b"a": encode(report(seq, agent_port))}
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
    settings = uvicorn.Config(
        app, port=port, http="httptools", lifespan="off", log_level="error", access_log=False
    )
    await uvicorn.Server(settings).serve()


def run_server(kind: str, model: str, agent_port: int, port: int) -> None:
    config = FrontHalfConfig(model, MODEL, {"max_model_len": 2048, "dtype": "float32"})
    serve = serve_ours if kind == "ours" else serve_bare
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config, agent_port, port))


def report(seq: int, agent_port: int) -> InstanceStatus:
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
        seen={},
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


def cpu_s(pid: int) -> float:
    """Of all threads, from the scheduler's own count (nanoseconds; ``cpu_times`` counts by 10 ms)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


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
        "rss_mib": psutil.Process(pid).memory_info().rss / 2**20,
    }


async def wait_until_serving(port: int) -> None:
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


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians; differences and ratios are taken within a repetition, then their median."""

    def paired(name: str, combine: Callable[[float, float], float]) -> dict[str, float]:
        values = [combine(a[name], b[name]) for a, b in zip(runs["ours"], runs["bare"], strict=True)]
        return {"median": statistics.median(values), "least": min(values), "most": max(values)}

    return {
        "shim_cpu_us_per_request": paired("cpu_us_per_request", lambda ours, bare: ours - bare),
        "shim_cpu_us_per_token": paired("cpu_us_per_token", lambda ours, bare: ours - bare),
        "ratio_per_token": paired("cpu_us_per_token", lambda ours, bare: ours / bare),
        "burst_ttft_ratio": paired("burst_ttft_p50_ms", lambda ours, bare: ours / bare),
        "runs": runs,
        "load_average": os.getloadavg(),
        "engine": "simulated",
    }


async def drive(pids: dict[str, int], ports: dict[str, int], args: argparse.Namespace) -> dict[str, Any]:
    for port in ports.values():
        await wait_until_serving(port)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "bare": []}
    for number in range(args.reps):
        order = ("ours", "bare") if number % 2 == 0 else ("bare", "ours")
        for kind in order:
            runs[kind].append(await measure(pids[kind], ports[kind], args.requests, args.streams))
    return summary(runs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    from engine_agents.vllm_engine.tiny_model import make_tiny_model

    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "tiny")
        make_tiny_model(model)
        agent_port, ports = free_port(), {"ours": free_port(), "bare": free_port()}
        agent = spawn.Process(target=run_agent, args=(agent_port,), daemon=True)
        agent.start()
        servers = {
            kind: spawn.Process(target=run_server, args=(kind, model, agent_port, port), daemon=True)
            for kind, port in ports.items()
        }
        for server in servers.values():
            server.start()
        try:
            pids = {kind: server.pid or 0 for kind, server in servers.items()}
            result = asyncio.run(drive(pids, ports, args))
        finally:
            for process in (*servers.values(), agent):
                process.terminate()
                process.join()
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
