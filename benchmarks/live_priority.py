"""What priorities are worth on live engines: the high class with and without them, and what others pay.

    python -m benchmarks.live_priority [--quick] [--engine paced|vllm] [--json FILE]

A whole gateway (vLLM's front half, admission, the fleet's queue, journal) over real agents; requests
enter at its door. ``paced``: four engines that sleep as long as a model of a GPU says, with real
memory accounting. ``vllm``: two real engines with the generated model on the CPU. One tenth of the
requests are ``interactive`` as in the paper (figure 13), arrivals are bursty (Gamma), and the load is
near what the fleet can take. The same arrivals run twice: once with the classes as they are (rank in
every queue, headroom on every instance), once with all classes alike. Latency is from the request's
arrival to its last token; gains are without over with, of mean and 99th percentile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.process import GatewayProcess, Options, Ports, Rules
from controlplane.records.types import FinishedRequest
from controlplane.scheduling.config import SchedulingConfig
from controlplane.tenancy.types import ClassTerms, KeyIdentity
from engine_agents.config import AgentConfig
from engine_agents.messages import GatewayStatus, encode
from engine_agents.serve import AgentServer
from engine_agents.vllm_engine.frontend_port import EngineClientPort, FrontHalf, FrontHalfConfig

MODEL, POOL = "tiny", "pool"
HIGH, REST = "interactive", "standard"
HIGH_SHARE = 0.1
TOKENS_PER_WORD = 3
"""Of the generated tokenizer, for the word the prompts are made of (measured at the start)."""


@dataclass(frozen=True)
class Setting:
    """One kind of engine, and a load near what so many of them can take."""

    engines: int
    engine_args: dict[str, Any]
    kv_memory_bytes: int
    capacity_tokens: int
    rate_per_s: float
    prompt_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    cv: float = 2.0


SETTINGS = {
    "paced": Setting(
        engines=4,
        engine_args={
            "base_step_ms": 20.0,
            "per_sequence_ms": 0.6,
            "per_prefill_token_ms": 0.1,
            "max_num_seqs": 64,
        },
        kv_memory_bytes=3 * 2**20,
        capacity_tokens=3072,
        rate_per_s=34.0,
        prompt_tokens=(30, 400),
        output_tokens=(20, 160),
    ),
    "vllm": Setting(
        engines=2,
        engine_args={"max_model_len": 2048, "max_num_seqs": 16},
        kv_memory_bytes=24 * 2**20,
        capacity_tokens=3072,
        rate_per_s=7.0,
        prompt_tokens=(100, 800),
        output_tokens=(30, 120),
    ),
}


@dataclass(frozen=True)
class Request:
    at_s: float
    slo_class: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Outcome:
    slo_class: str
    latency_s: float
    ttft_s: float
    failed: bool = False
    """Nobody took it within its class's patience; its wait counts as its latency."""


def workload(setting: Setting, seconds: float, seed: int) -> list[Request]:
    """Gamma arrivals, lengths log-uniform: many short ones, some long."""
    chance = random.Random(seed)
    shape = 1 / setting.cv**2
    now_s, found = 0.0, []
    while now_s < seconds:
        now_s += chance.gammavariate(shape, 1 / (setting.rate_per_s * shape))
        slo_class = HIGH if chance.random() < HIGH_SHARE else REST
        prompt, output = (between(chance, *span) for span in (setting.prompt_tokens, setting.output_tokens))
        found.append(Request(now_s, slo_class, prompt, output))
    return found


def between(chance: random.Random, low: int, high: int) -> int:
    return round(math.exp(chance.uniform(math.log(low), math.log(high))))


def classes(setting: Setting, priorities: bool) -> dict[str, ClassTerms]:
    """With priorities: rank, and others fill an instance that hosts the high class to five eighths."""
    high = ClassTerms(0, 500, 50, setting.capacity_tokens * 5 // 8, "priority")
    rest = ClassTerms(1, 2000, 80, None, "default")
    if not priorities:
        high = replace(high, rank=1, target_load_tokens=None)
    return {HIGH: high, REST: rest}


class Run:
    """A gateway with its agents on this loop, for one of the two forms."""

    def __init__(
        self, setting: Setting, terms: dict[str, ClassTerms], agents: dict[str, AgentServer]
    ) -> None:
        self._setting, self._agents = setting, agents
        self.records: list[FinishedRequest] = []
        keys = {name: KeyIdentity(1, "bench", 1, "bench", name, (name,), terms) for name in terms}
        self._ports = Ports(
            lookup_key=lambda raw_key, now: keys.get(raw_key),
            write_records=self.records.extend,
            read_rules=lambda: Rules(SchedulingConfig.recommended(), terms),
            build_front=build_front,
            follow_fleet=self._follow,
            publish=self._publish,
            clock=time.monotonic,
            wall_clock=lambda: datetime.now(UTC),
        )

    async def serve(self, model: str, requests: list[Request]) -> tuple[list[Outcome], dict[str, float]]:
        front = FrontHalfConfig(model, MODEL, {"max_model_len": 2048, "dtype": "float32"})
        process = GatewayProcess(Options(f"bench-{id(self)}", POOL, front), self._ports)
        await process.start()
        assert process.gateway is not None
        try:
            async with asyncio.timeout(120):
                while len(process.gateway.links.usable()) < len(self._agents):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                while not process.gateway.router.classes:  # noqa: ASYNC110 - they come by a poll
                    await asyncio.sleep(0.05)
            await ask(process, Request(0.0, REST, 30, 2))
            started_s = time.monotonic()
            tasks = [asyncio.create_task(self._at(process, started_s, each)) for each in requests]
            outcomes = await asyncio.gather(*tasks)
            counters = process.gateway.counters
            seen = {name: float(counters[name]) for name in ("preempted", "rehomed", "refused")}
            return list(outcomes), seen | {"seconds": time.monotonic() - started_s}
        finally:
            await process.stop()

    @staticmethod
    async def _at(process: GatewayProcess, started_s: float, request: Request) -> Outcome:
        await asyncio.sleep(max(0.0, started_s + request.at_s - time.monotonic()))
        return await ask(process, request, started_s + request.at_s)

    async def _follow(self, view: FleetView, on_change: Callable[[], None]) -> None:
        """In the place of Redis: every agent's report, twenty times a second."""
        for seq in range(1, 10**9):
            now = time.time()
            raw = {name.encode(): encode(agent.status(seq, now)) for name, agent in self._agents.items()}
            view.redis_alive = True
            view.absorb(raw, now_s=time.monotonic(), wall_s=now)
            on_change()
            await asyncio.sleep(0.05)

    async def _publish(self, gateway_id: str, report: Callable[[], GatewayStatus]) -> None:
        await asyncio.Event().wait()


async def build_front(config: FrontHalfConfig, port: EngineClientPort) -> FrontHalf:
    from engine_agents.vllm_engine.frontend import build_front_half

    return await build_front_half(config, port)


async def ask(process: GatewayProcess, request: Request, since_s: float | None = None) -> Outcome:
    """One stream, at the door itself."""
    since_s = time.monotonic() if since_s is None else since_s
    prompt = "x y " * (request.prompt_tokens // TOKENS_PER_WORD)
    body = {
        "model": MODEL,
        "prompt": prompt,
        "max_tokens": request.output_tokens,
        "ignore_eos": True,
        "stream": True,
    }
    given, first_s, status = False, 0.0, 0

    async def receive() -> dict[str, Any]:
        nonlocal given
        if given:
            await asyncio.Event().wait()
        given = True
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        nonlocal first_s, status
        status = message.get("status", status)
        if message.get("body") and not first_s:
            first_s = time.monotonic()

    headers = [
        (b"authorization", b"Bearer " + request.slo_class.encode()),
        (b"content-type", b"application/json"),
    ]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "raw_path": b"/v1/completions",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await process.door(scope, receive, send)
    ended_s = time.monotonic()
    ttft_s = (ended_s if status != 200 else first_s) - since_s
    return Outcome(request.slo_class, ended_s - since_s, ttft_s, status != 200)


async def agents_of(kind: str, setting: Setting, model: str, stack: AsyncExitStack) -> dict[str, AgentServer]:
    found = {}
    for number in range(setting.engines):
        name = f"{kind}-{number + 1}"
        config = AgentConfig(
            instance_id=name,
            pool=POOL,
            served_model=MODEL,
            model=model if kind == "vllm" else "paced",
            redis_url="",
            engine=kind,
            engine_args=setting.engine_args,
            kv_memory_bytes=setting.kv_memory_bytes,
            gateway_timeout_s=60.0,
        )
        server = AgentServer(config, engine_of(config))
        await server.start()
        stack.push_async_callback(server.stop)
        found[name] = server
    return found


def engine_of(config: AgentConfig) -> Any:
    if config.engine == "vllm":
        from engine_agents.vllm_engine.engine import VllmEngine

        return VllmEngine(config)
    from engine_agents.engines.paced import build

    return build(config)


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(0.99 * len(values)) - 1)]


def of_class(outcomes: list[Outcome], slo_class: str) -> dict[str, float]:
    latency = [each.latency_s for each in outcomes if each.slo_class == slo_class]
    ttft = [each.ttft_s for each in outcomes if each.slo_class == slo_class]
    return {
        "requests": len(latency),
        "failed": sum(each.failed for each in outcomes if each.slo_class == slo_class),
        "mean_s": statistics.mean(latency),
        "p99_s": p99(latency),
        "ttft_mean_s": statistics.mean(ttft),
        "ttft_p99_s": p99(ttft),
    }


def summary(
    forms: dict[str, list[Outcome]], notes: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    table = {form: {name: of_class(found, name) for name in (HIGH, REST)} for form, found in forms.items()}
    without, with_them = table["without"], table["with"]

    def gain(name: str, figure: str) -> float:
        return without[name][figure] / with_them[name][figure]

    return {
        "engine": "simulated, on the wall clock" if args.engine == "paced" else "vllm",
        "high_mean_gain": gain(HIGH, "mean_s"),
        "high_p99_gain": gain(HIGH, "p99_s"),
        "high_ttft_mean_gain": gain(HIGH, "ttft_mean_s"),
        "high_ttft_p99_gain": gain(HIGH, "ttft_p99_s"),
        "others_mean_cost": 1 / gain(REST, "mean_s"),
        "others_p99_cost": 1 / gain(REST, "p99_s"),
        "latency": table,
        "notes": notes,
        "load_average": os.getloadavg(),
    }


async def measure(args: argparse.Namespace, model: str) -> dict[str, Any]:
    setting = SETTINGS[args.engine]
    if args.rate:
        setting = replace(setting, rate_per_s=args.rate)
    forms: dict[str, list[Outcome]] = {"without": [], "with": []}
    notes: dict[str, Any] = {"rate_per_s": setting.rate_per_s, "seconds": args.seconds, "seeds": args.seeds}
    async with AsyncExitStack() as stack:
        agents = await agents_of(args.engine, setting, model, stack)
        for seed in range(args.seeds):
            requests = workload(setting, args.seconds, seed)
            for form in forms if seed % 2 == 0 else reversed(forms):
                run = Run(setting, classes(setting, form == "with"), agents)
                outcomes, counts = await run.serve(model, requests)
                forms[form] += outcomes
                notes[f"{form}, seed {seed}"] = counts
    return summary(forms, notes, args)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute; one seed")
    parser.add_argument("--engine", choices=sorted(SETTINGS), default="paced")
    parser.add_argument("--seconds", type=float, default=40.0, help="of arrivals")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second; default: the setting's")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.seeds = 12.0, 1
    from engine_agents.vllm_engine.tiny_model import make_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        model = str(make_tiny_model(Path(folder) / "tiny"))
        result = asyncio.run(measure(args, model))
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
