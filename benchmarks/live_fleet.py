"""A whole fleet for the live benchmarks: agents in processes of their own, Redis, SQLite, loop and gateway.

Everything is the product's: agents and their migrations, the gateway's router, queue, journal and links,
the rebalancing loop with its lease and database. What is left out is HTTP, tokenizer and Ray: requests
enter the gateway as tokens, the loop reaches agents by a socket. With ``paced`` engines the model's
arithmetic is replaced by a sleep, so that two cores do not decide the result; with ``vllm`` engines are real.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import redis

from benchmarks.live_agents import DoorAgents, run_agents
from benchmarks.live_requests import Front, Request, Timing, drive, percentile
from benchmarks.tick import _set_up_django as set_up_django
from benchmarks.tick import _start_redis as start_redis
from engine_agents.config import AgentConfig
from engine_agents.messages import InstanceStatus

POOL, MODEL = "bench", "bench"
PROCESSES = 2
"""Of paced agents; a real one has a process of its own."""
START_LIMIT_S = 300.0
LABELS = {"paced": "simulated engines on the wall clock", "vllm": "real vLLM engines"}


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
            if not all(child.is_alive() for child in self._children):
                raise RuntimeError("an agent's process ended; the reason stands above")
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
        front.max_model_len = self.engines.args.get("max_model_len", front.max_model_len)

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
