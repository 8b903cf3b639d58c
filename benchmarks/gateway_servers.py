"""The servers that ``benchmarks.gateway`` compares, each in a process of its own over a simulated engine.

``ours``: the whole gateway process. ``bare``: vLLM's app, input and output processor on the same
links. ``vllm``: vLLM's own API server process over a stub of its engine core.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import psutil
import uvicorn

from controlplane import garbage
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.links import Links, Self, Target
from controlplane.gateway.process import GatewayProcess, Options, Ports, Rules
from controlplane.gateway.server import server_config
from controlplane.tenancy.types import ClassTerms, KeyIdentity
from engine_agents.config import AgentConfig
from engine_agents.messages import Add, GatewayStatus, InstanceStatus, Ready, Step, ToGateway, encode
from engine_agents.vllm_engine.frontend_port import EngineClientPort, FrontHalf, FrontHalfConfig, NewRequest

MODEL, POOL, KEY = "tiny", "pool", "benchmark-key"
STEP_MS = 20.0
CLASSES = {"standard": ClassTerms(1, 2000, 80, None, "default")}
IDENTITY = KeyIdentity(1, "bench", 1, "bench", "standard", ("standard",), CLASSES)


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
    garbage.settle(young_objects=garbage.YOUNG_OBJECTS)
    await uvicorn.Server(server_config(process.door, port=port)).serve()


async def serve_http(app: Any, port: int) -> None:
    settings = uvicorn.Config(
        app, port=port, http="httptools", lifespan="off", log_level="error", access_log=False, backlog=4096
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


# ---------------------------------------------------------------- all of them


def tree(pid: int) -> list[int]:
    """A process and all its children."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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

    def add_router(self, name: str, command: str) -> None:
        """In front of ``bare``, which must be serving."""
        self.ports[name] = free_port()
        worker = f"http://127.0.0.1:{self.ports['bare']}"
        words = shlex.split(command.format(worker=worker, port=self.ports[name]))
        quiet = subprocess.DEVNULL
        router = subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)
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
