"""What rescheduling is worth to the tail, live: the same skewed load with it off and on, in pairs.

    python -m benchmarks.live_tail [--quick] [--instances 16] [--engines paced|vllm] [--seeds 3] [--json FILE]

Everything is the product's: agents and their migrations, the gateway's router, journal and links, the
rebalancing loop with Redis and SQLite. With ``paced`` (the default) the model's arithmetic is replaced
by a sleep, so that two cores do not decide the result: *simulated engines*. With ``vllm`` engines are
real, two by default. Prompts are short and answers heavy-tailed (mix S-L of the Llumnix evaluation); for
the first seconds only a quarter of the instances takes work. Ratios are off : on, above 1 is better.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import redis
import zmq

from benchmarks.tick import _set_up_django as set_up_django
from benchmarks.tick import _start_redis as start_redis
from engine_agents.config import AgentConfig
from engine_agents.engines.paced_wire import decode_outputs, encode_request
from engine_agents.messages import InstanceStatus, MigrateOut, MigrateOutAnswer, encode

POOL, MODEL = "bench", "bench"
PROCESSES = 2
START_LIMIT_S = 300.0
DRAIN_LIMIT_S = 120.0
KV_BYTES = {"paced": 2**20, "vllm": 4 * 2**20}
LATENCIES = ("ttft_p50_ms", "ttft_p99_ms", "end_to_end_p50_ms", "end_to_end_p99_ms")


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

    import zmq.asyncio

    asyncio.run(serve())


class DoorAgents:
    """The loop's way to the agents: as :class:`controlplane.fleet.agents.AgentClient` asks, without Ray."""

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
            return socket.recv() if socket.poll(1e3 * limit_s) else None


# ---------------------------------------------------------------- the gateway


@dataclass(slots=True)
class Timing:
    arrived_s: float
    first_s: float = 0.0
    finished_s: float = 0.0
    failed: bool = False


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
        from engine_agents.engines.paced_wire import PacedOutput

        return PacedOutput(request_id, token_ids)

    def continued(self, output: Any) -> Any:
        return msgspec.structs.replace(output, finish_reason=None)

    def close(self) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Load:
    """Arrivals in seconds, prompts and answers in tokens."""

    at_s: Sequence[float]
    prompts: Sequence[int]
    outputs: Sequence[int]


def draw_load(options: argparse.Namespace, seed: int) -> Load:
    from controlplane.simulator.arrivals import arrival_times
    from controlplane.simulator.lengths import draw_mix

    count = int(options.rate * options.duration)
    prompts, outputs = draw_mix("S-L", count, seed)
    scale = options.length_scale

    def scaled(lengths: Any) -> list[int]:
        return [min(options.longest, max(2, round(scale * int(each)))) for each in lengths]

    return Load(arrival_times(options.rate, count, seed, 2.0).tolist(), scaled(prompts), scaled(outputs))


async def drive(front_of: Callable[[], Any], load: Load, seed: int) -> None:
    """An open loop: each request goes out when its time comes, however slow the answers are."""
    from controlplane.gateway.admission import Caller
    from controlplane.gateway.live_requests import Call, current_call
    from controlplane.tenancy.types import ClassTerms, KeyIdentity
    from engine_agents.vllm_engine.frontend_port import NewRequest

    process, front = front_of()
    terms = {"standard": ClassTerms(1, None, None, None, "default")}
    identity = KeyIdentity(1, "bench", 1, "bench", "standard", ("standard",), terms)
    caller = Caller(identity, "", "standard", 1)
    dice, began_s = random.Random(seed), time.monotonic()
    for number, (at_s, prompt, output) in enumerate(zip(load.at_s, load.prompts, load.outputs, strict=True)):
        await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
        name = f"r{seed}-{number}"
        tokens = [dice.randrange(3, 250) for _ in range(prompt)]
        front.timings[name] = Timing(time.monotonic())
        front.open += 1
        current_call.set(Call(name, caller, time.monotonic(), datetime.now(UTC)))
        body = encode_request(name, tokens, max_tokens=output, temperature=0.0)
        process.gateway.add(NewRequest(name, body, prompt, output, gap_closable=True))
    deadline_s = time.monotonic() + DRAIN_LIMIT_S
    while front.open and time.monotonic() < deadline_s:  # noqa: ASYNC110 - once a run
        await asyncio.sleep(0.05)


# ---------------------------------------------------------------- one run


class Bench:
    """Redis, database, agents and loop of one process tree; runs are made one after the other."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.redis = start_redis(folder)
        self.url = f"unix://{folder / 'redis.sock'}"
        set_up_django(folder)
        self.names = [f"bench-{number}" for number in range(options.instances)]
        self._model = self._make_model()
        self._make_rows()

    def _make_model(self) -> str:
        if self.options.engines == "paced":
            return "paced"
        from engine_agents.vllm_engine.tiny_model import make_tiny_model

        make_tiny_model(self.folder / "tiny")
        return str(self.folder / "tiny")

    def _make_rows(self) -> None:
        from django.utils import timezone

        from controlplane.fleet.models import Instance, Pool

        pool = Pool.objects.create(name=POOL, served_model=MODEL, model_path="x", engine="paced")
        Instance.objects.bulk_create(
            Instance(instance_id=name, pool=pool, state="ready", changed_at=timezone.now())
            for name in self.names
        )

    def _configs(self) -> list[AgentConfig]:
        options = self.options
        paced = {"base_step_ms": options.step_ms, "max_num_seqs": 256}
        real = {"max_model_len": 1024, "block_size": 32, "dtype": "float32"}
        return [
            AgentConfig(
                instance_id=name,
                pool=POOL,
                served_model=MODEL,
                model=self._model,
                redis_url=self.url,
                engine=options.engines,
                engine_args=paced if options.engines == "paced" else real,
                kv_memory_bytes=int(options.kv_kib * 1024),
            )
            for name in self.names
        ]

    def run(self, seed: int, *, rescheduling: bool) -> dict[str, float]:
        """One run on fresh agents; the figures of its requests."""
        context = multiprocessing.get_context("spawn")
        redis.Redis.from_url(self.url).flushall()
        configs, doors, children = self._configs(), {}, []
        share = -(-len(configs) // min(PROCESSES, len(configs)))
        for number in range(0, len(configs), share):
            door = str(self.folder / f"door-{seed}-{rescheduling}-{number}")
            mine = configs[number : number + share]
            doors |= {each.instance_id: door for each in mine}
            children.append(context.Process(target=run_agents, args=(mine, door), daemon=True))
            children[-1].start()
        agents = DoorAgents(doors)
        try:
            self._wait_ready()
            return self._measure(agents, seed, rescheduling)
        finally:
            agents.stop_all()
            for child in children:
                child.join(30)
                child.kill()

    def _measure(self, agents: DoorAgents, seed: int, rescheduling: bool) -> dict[str, float]:
        from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop

        self._wish(self.names[: max(1, len(self.names) // 4)])
        self._activate(rescheduling)
        stop = threading.Event()
        loop = RebalancingLoop(owner=f"bench-{seed}", agents=agents, settings=LoopSettings())  # type: ignore[arg-type]
        thread = threading.Thread(target=loop.run, args=(stop,), daemon=True)
        thread.start()
        widen = threading.Timer(self.options.skew_s, self._wish, (self.names,))
        widen.start()
        try:
            timings = asyncio.run(self._serve(seed))
        finally:
            widen.cancel()
            stop.set()
            thread.join(30)
        return self._figures(timings)

    async def _serve(self, seed: int) -> list[Timing]:
        process, front = await self._gateway()
        try:
            await self._until_linked(process)
            await drive(lambda: (process, front), draw_load(self.options, seed), seed)
            return list(front.timings.values())
        finally:
            await process.stop()

    async def _gateway(self) -> tuple[Any, Front]:
        from controlplane.gateway.fleet_view import StatusFeed
        from controlplane.gateway.process import GatewayProcess, Options, Ports, Rules
        from controlplane.gateway.reporting import StatusPublisher
        from controlplane.scheduling.config import SchedulingConfig
        from engine_agents.vllm_engine.frontend_port import FrontHalfConfig

        version = self._statuses()[0].engine_version
        front = Front(version)

        async def build_front(*_: Any) -> Any:
            return front

        rules = Rules(config=SchedulingConfig.for_policy("llumnix"))
        process = GatewayProcess(
            Options("bench-gateway", POOL, FrontHalfConfig(self._model, MODEL)),
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
        process.gateway.router.reconfigure(rules.config, {})
        return process, front

    async def _until_linked(self, process: Any) -> None:
        deadline_s = time.monotonic() + START_LIMIT_S
        while len(process.gateway.links.usable()) < len(self.names):
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"only {sorted(process.gateway.links.usable())} can be used")
            await asyncio.sleep(0.05)

    def _wait_ready(self) -> None:
        deadline_s = time.monotonic() + START_LIMIT_S
        while sum(each.state == "ready" for each in self._statuses()) < len(self.names):
            if time.monotonic() > deadline_s:
                raise RuntimeError("the agents did not start")
            time.sleep(0.05)

    def _statuses(self) -> list[InstanceStatus]:
        raw: Any = redis.Redis.from_url(self.url).hgetall("llumdeck:status")
        return [msgspec.msgpack.decode(each, type=InstanceStatus) for each in raw.values()]

    def _wish(self, accepting: Sequence[str]) -> None:
        from django.db import connection

        from controlplane.fleet.models import Instance

        Instance.objects.filter(instance_id__in=accepting).update(accepting=True, state="ready")
        Instance.objects.exclude(instance_id__in=accepting).update(accepting=False)
        connection.close()

    def _activate(self, rescheduling: bool) -> None:
        from controlplane.fleet.models import Pool
        from controlplane.rebalancing import services

        config = {"policy": "llumnix", "rescheduling": {"enabled": rescheduling, **self._thresholds()}}
        version = services.create_policy_version(pool=Pool.objects.get(), config=config, actor="benchmark")
        services.activate_policy_version(version=version, actor="benchmark")

    def _thresholds(self) -> dict[str, float]:
        return {"source_threshold_tokens": 48.0, "destination_threshold_tokens": 48.0}

    def _figures(self, timings: Sequence[Timing]) -> dict[str, float]:
        from controlplane.rebalancing.models import RequestMigration

        served = [each for each in timings if each.finished_s and not each.failed]
        ttft = [1e3 * (each.first_s - each.arrived_s) for each in served]
        whole = [1e3 * (each.finished_s - each.arrived_s) for each in served]
        moves = RequestMigration.objects.filter(state="done").count()
        RequestMigration.objects.all().delete()
        return {
            "requests": len(timings),
            "failed": len(timings) - len(served),
            "ttft_p50_ms": _percentile(ttft, 50),
            "ttft_p99_ms": _percentile(ttft, 99),
            "end_to_end_p50_ms": _percentile(whole, 50),
            "end_to_end_p99_ms": _percentile(whole, 99),
            "preemptions": sum(each.preemptions_total for each in self._statuses()),
            "migrations": moves,
        }

    def close(self) -> None:
        self.redis.terminate()
        self.redis.wait()


def _percentile(values: Sequence[float], share: float) -> float:
    return round(float(np.percentile(values, share)), 1) if values else float("nan")


def compare(pairs: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    """Geometric means of off : on; preemptions with one added to both, as there may be none."""
    ratios = {
        f"{name}_ratio": round(
            statistics.geometric_mean([pair["off"][name] / pair["on"][name] for pair in pairs]), 3
        )
        for name in LATENCIES
    }
    preempted = [(pair["off"]["preemptions"] + 1) / (pair["on"]["preemptions"] + 1) for pair in pairs]
    return {**ratios, "preemptions_ratio": round(statistics.geometric_mean(preempted), 3)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair of short runs, under a minute")
    parser.add_argument("--engines", choices=["paced", "vllm"], default="paced")
    parser.add_argument("--instances", type=int, help="default 16, with vllm 2")
    parser.add_argument("--seeds", type=int, help="pairs of runs (default 3, quick 1)")
    parser.add_argument("--rate", type=float, help="requests per second")
    parser.add_argument("--duration", type=float, help="seconds of arrivals (default 60, quick 14)")
    parser.add_argument("--step-ms", type=float, default=40.0, help="of a paced engine")
    parser.add_argument("--kv-kib", type=float, help="memory of one engine")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    real = options.engines == "vllm"
    options.instances = options.instances or (2 if real else 16)
    options.seeds = options.seeds or (1 if options.quick else 3)
    options.duration = options.duration or (14.0 if options.quick else 60.0)
    options.rate = options.rate or (4.0 if real else 1.5 * options.instances)
    options.kv_kib = options.kv_kib or KV_BYTES[options.engines] / 1024
    options.length_scale, options.longest = (0.5, 400) if real else (0.25, 400)
    options.skew_s = options.duration / 4
    return options


def main() -> None:
    options = parse()
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-tail-"))
    bench = Bench(options, folder)
    pairs = []
    try:
        for seed in range(1, options.seeds + 1):
            order = [False, True] if seed % 2 else [True, False]
            runs = {("on" if each else "off"): bench.run(seed, rescheduling=each) for each in order}
            pairs.append(runs)
            print(json.dumps(runs), flush=True)
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    label = "simulated engines on the wall clock" if options.engines == "paced" else "real vLLM engines"
    result = {
        "benchmark": "live_tail",
        "engines": label,
        "instances": options.instances,
        "rate_per_s": options.rate,
        "duration_s": options.duration,
        **compare(pairs),
        "pairs": pairs,
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
