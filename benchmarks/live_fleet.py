"""A whole fleet for the live benchmarks: agents in processes of their own, Redis, SQLite, loop and gateway.

Everything is the product's: agents and their migrations, the gateway's router, queue, journal and links,
the rebalancing loop with its lease and database. What is left out is HTTP, tokenizer and Ray: requests
enter the gateway as tokens, the loop reaches agents by a socket. With ``paced`` engines the model's
arithmetic is replaced by a sleep, so that two cores do not decide the result; with ``vllm`` engines are real.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import redis
import zmq
import zmq.asyncio

from benchmarks.tick import _set_up_django as set_up_django
from benchmarks.tick import _start_redis as start_redis
from engine_agents.config import AgentConfig
from engine_agents.engines.paced_wire import PacedOutput, decode_outputs, encode_request
from engine_agents.messages import InstanceStatus, MigrateOut, MigrateOutAnswer, encode

POOL, MODEL = "bench", "bench"
PROCESSES = 2
"""Of paced agents; a real one has a process of its own."""
START_LIMIT_S = 300.0
DRAIN_LIMIT_S = 120.0
LABELS = {"paced": "simulated engines on the wall clock", "vllm": "real vLLM engines"}


# ---------------------------------------------------------------- agents


def run_agents(configs: Sequence[AgentConfig], door: str) -> None:
    """Serve in this process until told to stop; commands of the loop come by ``door``."""
    from engine_agents.actor import load_engine
    from engine_agents.serve import AgentServer

    async def serve() -> None:
        servers = {each.instance_id: AgentServer(each, load_engine(each)) for each in configs}
        for server in servers.values():
            await server.start()
        with zmq.asyncio.Context() as context, context.socket(zmq.REP) as socket:
            socket.bind(f"ipc://{door}")
            while True:
                name, what, *arguments = msgspec.msgpack.decode(await socket.recv())
                if what == "stop":
                    await socket.send(b"")
                    break
                await socket.send(await answer(servers[name], what, arguments))
        for server in servers.values():
            await server.stop()

    async def answer(server: AgentServer, what: str, arguments: list[Any]) -> bytes:
        if what == "set_accepting":
            return msgspec.msgpack.encode(server.set_accepting(*arguments))
        return encode(await server.migrate_out(msgspec.msgpack.decode(arguments[0], type=MigrateOut)))

    asyncio.run(serve())


class DoorAgents:
    """The loop's way to the agents, as :class:`controlplane.fleet.agents.AgentClient` asks, without Ray."""

    def __init__(self, doors: Mapping[str, str]) -> None:
        self._doors = doors
        self._context = zmq.Context()

    def migrate_out(self, commands: Sequence[Any], *, timeout_s: float) -> list[MigrateOutAnswer]:
        return [
            self._decoded(self._ask(each.source_id, timeout_s, "migrate_out", encode(each.message)))
            for each in commands
        ]

    def set_accepting(
        self, wishes: Mapping[str, bool], *, lease_epoch: int, timeout_s: float
    ) -> dict[str, str]:
        asked = {
            name: self._ask(name, timeout_s, "set_accepting", wish, lease_epoch)
            for name, wish in wishes.items()
        }
        return {name: "unreachable" for name, answer in asked.items() if answer is None}

    def requests(self, instance_ids: Sequence[str], *, timeout_s: float) -> dict[str, list[Any]]:
        return {}

    def stop_all(self) -> None:
        """One word per process."""
        for name in {door: name for name, door in self._doors.items()}.values():
            self._ask(name, 30.0, "stop")

    def _decoded(self, answer: bytes | None) -> MigrateOutAnswer:
        if answer is None:
            return MigrateOutAnswer(accepted=False, reason="unreachable: does not answer")
        return msgspec.msgpack.decode(answer, type=MigrateOutAnswer)

    def _ask(self, name: str, limit_s: float, *words: Any) -> bytes | None:
        with self._context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(f"ipc://{self._doors[name]}")
            socket.send(msgspec.msgpack.encode([name, *words]))
            return socket.recv() if socket.poll(int(1e3 * limit_s)) else None


# ---------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class Request:
    """``group`` is the benchmark's own word for it, ``slo_class`` what the fleet is told."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    slo_class: str = "standard"
    group: str = ""


@dataclass(slots=True)
class Timing:
    """Of one request; times are monotonic, and it arrives when the workload says so."""

    request: Request
    arrived_s: float
    sent_s: float
    first_s: float = 0.0
    finished_s: float = 0.0
    failed: bool = False

    @property
    def served(self) -> bool:
        return bool(self.finished_s) and not self.failed

    @property
    def ttft_ms(self) -> float:
        return 1e3 * (self.first_s - self.arrived_s)

    @property
    def end_to_end_ms(self) -> float:
        return 1e3 * (self.finished_s - self.arrived_s)


class Front:
    """The front half without HTTP and tokenizer: requests are tokens, answers are times."""

    app: Any = None
    engine_version = ""
    max_model_len = 1024

    def __init__(self, version: str) -> None:
        self.engine_version = version
        self.timings: dict[str, Timing] = {}
        self.open = 0

    def decode(self, payload: bytes) -> Sequence[Any]:
        return decode_outputs(payload).outputs

    def deliver(self, outputs: Sequence[Any]) -> None:
        now_s = time.monotonic()
        for output in outputs:
            timing = self.timings.get(output.request_id)
            if timing is None or timing.finished_s:
                continue
            timing.first_s = timing.first_s or now_s
            if output.finish_reason is not None:
                timing.finished_s = now_s
                self.open -= 1

    def fail(self, request_id: str, status: int, message: str) -> None:
        timing = self.timings[request_id]
        timing.failed, timing.finished_s = True, time.monotonic()
        self.open -= 1

    def trim(self, output: Any, skip: int) -> Any:
        return msgspec.structs.replace(output, new_token_ids=output.new_token_ids[skip:])

    def tokens_only(self, request_id: str, token_ids: list[int]) -> Any:
        return PacedOutput(request_id, token_ids)

    def continued(self, output: Any) -> Any:
        return msgspec.structs.replace(output, finish_reason=None)

    def close(self) -> None:
        pass


async def drive(process: Any, front: Front, requests: Sequence[Request], terms: Any, seed: int) -> None:
    """An open loop: each request goes out when its time comes, however slow the answers are."""
    from controlplane.gateway.admission import Caller
    from controlplane.gateway.live_requests import Call, current_call
    from controlplane.tenancy.types import KeyIdentity
    from engine_agents.vllm_engine.frontend_port import NewRequest

    identities = {name: KeyIdentity(1, "bench", 1, "bench", name, (name,), terms) for name in terms}
    dice, began_s = random.Random(seed), time.monotonic() + 0.2
    for number, each in enumerate(requests):
        arrived_s = began_s + each.at_s
        await asyncio.sleep(max(0.0, arrived_s - time.monotonic()))
        name = f"{process.incarnation}-{number}"
        tokens = [dice.randrange(3, 250) for _ in range(each.prompt_tokens)]
        sent_s = time.monotonic()
        front.timings[name] = Timing(each, arrived_s, sent_s)
        front.open += 1
        caller = Caller(identities[each.slo_class], "", each.slo_class, terms[each.slo_class].rank)
        current_call.set(Call(name, caller, sent_s, datetime.now(UTC)))
        body = encode_request(name, tokens, max_tokens=each.output_tokens, temperature=0.0)
        process.gateway.add(NewRequest(name, body, each.prompt_tokens, each.output_tokens, True))
    deadline_s = time.monotonic() + DRAIN_LIMIT_S
    while front.open and time.monotonic() < deadline_s:  # noqa: ASYNC110 - once a run
        await asyncio.sleep(0.05)


# ---------------------------------------------------------------- the fleet


@dataclass(frozen=True)
class Engines:
    """How many of which kind."""

    kind: str
    instances: int
    args: Mapping[str, Any]
    kv_bytes: int


@dataclass(frozen=True)
class Run:
    """One way to serve one workload."""

    requests: Sequence[Request]
    config: Mapping[str, Any]
    """The policy, as a ``PolicyVersion`` has it."""
    terms: Mapping[str, Any]
    """SLO classes by name: ``ClassTerms``."""
    seed: int = 0
    skew_s: float = 0.0
    """For so long only a quarter of the instances takes work."""


@dataclass
class Served:
    """What became of it."""

    timings: list[Timing]
    preemptions: int
    migrations: int
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(not each.served for each in self.timings)

    @property
    def driver_late_p99_ms(self) -> float:
        """How late requests were sent: large, and this machine was too busy for the result to mean much."""
        return percentile([1e3 * (each.sent_s - each.arrived_s) for each in self.timings], 99)


class LiveFleet:
    """Started once; runs are made one after the other, each with a gateway and a loop of its own."""

    def __init__(self, engines: Engines, folder: Path) -> None:
        self.engines, self.folder = engines, folder
        self.redis = start_redis(folder)
        self.url = f"unix://{folder / 'redis.sock'}"
        set_up_django(folder)
        self.names = [f"bench-{number}" for number in range(engines.instances)]
        self._model = self._make_model()
        self._make_rows()
        self._children: list[Any] = []
        self._agents = DoorAgents({})
        self._start_agents()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._agents.stop_all()
        for child in self._children:
            child.join(30)
            child.kill()
        self.redis.terminate()
        self.redis.wait()

    def _make_model(self) -> str:
        if self.engines.kind == "paced":
            return "paced"
        from engine_agents.vllm_engine.tiny_model import make_tiny_model

        return str(make_tiny_model(self.folder / "tiny"))

    def _make_rows(self) -> None:
        from django.utils import timezone

        from controlplane.fleet.models import Instance, Pool

        pool = Pool.objects.create(name=POOL, served_model=MODEL, model_path="x", engine="paced")
        Instance.objects.bulk_create(
            Instance(instance_id=name, pool=pool, state="ready", changed_at=timezone.now())
            for name in self.names
        )

    def _start_agents(self) -> None:
        context = multiprocessing.get_context("spawn")
        configs = [self._config(name) for name in self.names]
        doors: dict[str, str] = {}
        processes = min(PROCESSES, len(configs)) if self.engines.kind == "paced" else len(configs)
        share = -(-len(configs) // processes)
        for number in range(0, len(configs), share):
            door = str(self.folder / f"door-{number}")
            mine = configs[number : number + share]
            doors |= {each.instance_id: door for each in mine}
            self._children.append(context.Process(target=run_agents, args=(mine, door), daemon=True))
            self._children[-1].start()
        self._agents = DoorAgents(doors)
        self._wait_for(lambda: sum(each.state == "ready" for each in self.statuses()) == len(self.names))

    def _config(self, name: str) -> AgentConfig:
        return AgentConfig(
            instance_id=name,
            pool=POOL,
            served_model=MODEL,
            model=self._model,
            redis_url=self.url,
            engine=self.engines.kind,
            engine_args=dict(self.engines.args),
            kv_memory_bytes=self.engines.kv_bytes,
        )

    def _wait_for(self, there: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + START_LIMIT_S
        while not there():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"the agents did not come so far: {self.statuses()}")
            time.sleep(0.05)

    def statuses(self) -> list[InstanceStatus]:
        raw: Any = redis.Redis.from_url(self.url).hgetall("llumdeck:status")
        return [msgspec.msgpack.decode(each, type=InstanceStatus) for each in raw.values()]

    # ---------------------------------------------------------------- one run

    def serve(self, run: Run) -> Served:
        """The workload from its first request to its last token."""
        from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop

        self._wait_for(lambda: not any(each.running or each.waiting for each in self.statuses()))
        before = sum(each.preemptions_total for each in self.statuses())
        self._declare(run.terms)
        self._wish(self.names[: max(1, len(self.names) // 4)] if run.skew_s else self.names)
        self._activate(run.config)
        stop = threading.Event()
        settings = LoopSettings()
        loop = RebalancingLoop(owner=f"bench-{time.monotonic()}", agents=self._agents, settings=settings)  # type: ignore[arg-type]
        thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
        thread.start()
        widen = threading.Timer(run.skew_s, self._wish, (self.names,))
        try:
            self._wait_for(lambda: loop.ticks > 1 and self._wishes_hold())
            timings, counters = asyncio.run(self._gateway(run, widen))
        finally:
            widen.cancel()
            stop.set()
            thread.join(30)
        after = sum(each.preemptions_total for each in self.statuses())
        return Served(timings, after - before, self._take_moves(), counters)

    def _wishes_hold(self) -> bool:
        """Every agent has heard whether it is to take work."""
        from controlplane.fleet.models import Instance

        wished = dict(Instance.objects.values_list("instance_id", "accepting"))
        return all(each.accepting == wished[each.instance_id] for each in self.statuses())

    async def _gateway(self, run: Run, widen: threading.Timer) -> tuple[list[Timing], dict[str, int]]:
        process, front = await self._start_gateway(run)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not self._is_ready(process.gateway):  # noqa: ASYNC110 - once a run
                    await asyncio.sleep(0.05)
            if run.skew_s:
                widen.start()
            await drive(process, front, run.requests, run.terms, run.seed)
            return list(front.timings.values()), dict(process.gateway.counters)
        finally:
            await process.stop()

    def _is_ready(self, gateway: Any) -> bool:
        """Linked to all, and told of policy and classes."""
        return len(gateway.links.usable()) == len(self.names) and bool(gateway.router.classes)

    async def _start_gateway(self, run: Run) -> tuple[Any, Front]:
        from controlplane.gateway.fleet_view import StatusFeed
        from controlplane.gateway.process import GatewayProcess, Options, Ports, Rules
        from controlplane.gateway.reporting import StatusPublisher
        from controlplane.scheduling.config import SchedulingConfig
        from engine_agents.vllm_engine.frontend_port import FrontHalfConfig

        front = Front(self.statuses()[0].engine_version)

        async def build_front(*_: Any) -> Any:
            return front

        rules = Rules(config=SchedulingConfig.from_dict(run.config), classes=run.terms)
        process = GatewayProcess(
            Options(f"bench-{time.monotonic_ns()}", POOL, FrontHalfConfig(self._model, MODEL)),
            Ports(
                lookup_key=lambda *_: None,
                write_records=lambda finished: None,
                read_rules=lambda: rules,
                build_front=build_front,
                follow_fleet=lambda view, heard: StatusFeed(view, time.monotonic, time.time, heard).run(),
                publish=lambda name, report: StatusPublisher(name, report).run(),
                clock=time.monotonic,
                wall_clock=lambda: datetime.now(UTC),
            ),
        )
        await process.start()
        assert process.gateway is not None
        return process, front

    # ---------------------------------------------------------------- rows

    def _declare(self, terms: Mapping[str, Any]) -> None:
        """The loop reads classes from the database."""
        from controlplane.tenancy.models import SLOClass

        for name, each in terms.items():
            SLOClass.objects.filter(name=name).update(
                rank=each.rank, target_load_tokens=each.target_load_tokens
            )

    def _wish(self, accepting: Sequence[str]) -> None:
        from django.db import connection

        from controlplane.fleet.models import Instance

        Instance.objects.filter(instance_id__in=accepting).update(accepting=True, state="ready")
        Instance.objects.exclude(instance_id__in=accepting).update(accepting=False)
        connection.close()

    def _activate(self, config: Mapping[str, Any]) -> None:
        from controlplane.fleet.models import Pool
        from controlplane.rebalancing import services

        version = services.create_policy_version(pool=Pool.objects.get(), config=config, actor="benchmark")
        services.activate_policy_version(version=version, actor="benchmark")

    def _take_moves(self) -> int:
        from controlplane.rebalancing.models import RequestMigration

        moves = RequestMigration.objects.filter(state="done").count()
        RequestMigration.objects.all().delete()
        return moves


def percentile(values: Sequence[float], share: float) -> float:
    """By interpolation, to a tenth; of nothing it is not a number."""
    import numpy as np

    return round(float(np.percentile(values, share)), 1) if values else float("nan")
