"""What a live migration costs: the pause of who moves, and what everybody else feels of it.

    python -m benchmarks.live_migration [--quick] [--json FILE]

Two real vLLM engines on a tiny model, each in a process of its own; requests move
to and fro between them while a gateway times every token.

* *step*: the usual time between two tokens of that request, on either engine.
* *gap*: from the source's last token to the destination's first, as the gateway sees it.
* *blocking copy*: the same hand-over, but frozen before the first block is copied.
* *recompute*: its tokens are sent to the other engine instead, which computes all anew.
* *batch-mates*: the mean step of the other requests while one moves, over their mean
  step in equally long times just before and just after it, pair by pair.
* *throughput*: tokens per second of the agents' CPU time with one request always on the
  move, over none; pairs of periods in which the same requests make the same tokens (a
  longer context makes a slower step), in changing order; the same by the clock beside it.

``--secured`` and ``--transfer zmq`` show what encrypted links and copying over them cost.

Wall times on a busy machine say little; ratios within one run are what is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.migration_fleet import Agent, Stream, TimingGateway, agents, vllm_request
from engine_agents.config import AgentConfig
from engine_agents.link_security import LinkKeys, gateway_keys
from engine_agents.messages import MigrateOut, MigrationOutcome, encode

LENGTHS = (64, 512, 2048, 3600)
BESIDE = (0, 4, 16)
FLOORS = {
    "extra_stall_over_step": (2.0, 1.0, "at most"),
    "flatness": (2.0, 1.5, "at most"),
    "recompute_over_stall_3600": (25.0, 40.0, "at least"),
    "batchmates_step_ratio": (1.1, 1.05, "at most"),
    "throughput_ratio": (0.75, 0.9, "at least"),
    "identical_share": (1.0, 1.0, "at least"),
}
"""Figure -> floor, goal, direction."""
TOKENS_BETWEEN_MOVES = 14
CAPACITY_BYTES = 1200 * 2**20


@dataclass
class Plan:
    """How much is measured."""

    lengths: Sequence[int] = LENGTHS
    beside: Sequence[int] = BESIDE
    moves: int = 12
    """Per length and load."""
    blocking_moves: int = 3
    recomputes: int = 3
    mate_pairs: int = 40
    throughput_pairs: int = 6
    period_tokens: int = 240
    """Per stream, in mean."""

    @classmethod
    def quick(cls) -> Plan:
        return cls(
            lengths=(64, 3600),
            beside=(0, 4),
            moves=6,
            blocking_moves=1,
            recomputes=1,
            mate_pairs=12,
            throughput_pairs=2,
            period_tokens=160,
        )


@dataclass
class Cell:
    """One length at one load; medians, milliseconds."""

    length: int
    beside: int
    step_ms: float
    gap_ms: float
    gap_p95_ms: float
    blocking_gap_ms: float
    recompute_gap_ms: float
    stages: float
    moves: int
    frozen_ms: float = 0.0

    @property
    def extra(self) -> float:
        return (self.gap_ms - self.step_ms) / self.step_ms


@dataclass
class Fleet:
    """The two agents, the gateway, and what every moved request said."""

    agents: dict[str, Agent]
    gateway: TimingGateway
    numbers: Iterable[int] = field(default_factory=itertools.count)
    identical: int = 0
    total: int = 0

    def other(self, name: str) -> Agent:
        return next(agent for agent in self.agents.values() if agent.name != name)

    async def move(self, stream: Stream) -> MigrationOutcome:
        source, destination = self.agents[stream.home], self.other(stream.home)
        command = MigrateOut(
            migration_id=f"m{next(iter(self.numbers))}",
            destination_instance_id=destination.name,
            destination_peer_endpoint=destination.peer_endpoint,
            rule="manual",
            lease_epoch=1,
            budget_tokens=10**9,
            request_id=stream.request_id,
        )
        answer = await source.call("migrate_out", encode(command))
        return msgspec.msgpack.decode(answer, type=MigrationOutcome)

    async def configure(self, **changes: Any) -> None:
        for agent in self.agents.values():
            await agent.call("configure", changes)

    async def cpu_s(self) -> float:
        """CPU time of the agents' processes so far."""
        times: list[float] = [await agent.call("cpu_s") for agent in self.agents.values()]
        return sum(times)

    def compare(self, moved: Stream, calm: Stream) -> None:
        count = min(len(moved.tokens), len(calm.tokens))
        self.total += 1
        self.identical += count > 0 and moved.tokens[:count] == calm.tokens[:count]


def prompt_of(length: int, salt: int) -> list[int]:
    return [(17 * i + i * i + 31 * salt) % 600 + 6 for i in range(length)]


# ---------------------------------------------------------------- the pause


async def pause_of(fleet: Fleet, length: int, beside: int, plan: Plan, salt: int) -> Cell:
    """Moves to and fro of one request beside so many others on each engine."""
    gateway = fleet.gateway
    mates = await crowd(fleet, beside, salt)
    tokens = min(4090 - length, (plan.moves + plan.blocking_moves + 2) * (TOKENS_BETWEEN_MOVES + 40))
    sampling: dict[str, Any] = {"max_tokens": tokens, "ignore_eos": True, "temperature": 1.0}
    sampling["seed"] = salt + 1
    prompt = prompt_of(length, salt)
    hops = await hop(fleet, prompt, salt, plan.moves, sampling)
    await fleet.configure(max_stages=0)
    blocking = await hop(fleet, prompt, salt, plan.blocking_moves, sampling)
    await fleet.configure(max_stages=8)
    await compare(fleet, prompt, f"calm-{salt}", sampling, hops.stream, blocking.stream)
    recomputed = [await recompute(fleet, length, 1000 * (salt + 1) + i) for i in range(plan.recomputes)]
    for mate in mates:
        await gateway.abort(mate)
    return Cell(
        length=length,
        beside=beside,
        step_ms=statistics.median(hops.steps_ms),
        gap_ms=statistics.median(hops.gaps_ms),
        gap_p95_ms=sorted(hops.gaps_ms)[int(0.95 * (len(hops.gaps_ms) - 1))],
        blocking_gap_ms=statistics.median(blocking.gaps_ms),
        recompute_gap_ms=statistics.median(recomputed),
        stages=statistics.mean(len(one.stages) for one in hops.outcomes),
        moves=len(hops.gaps_ms),
        frozen_ms=statistics.median(one.downtime_ms for one in hops.outcomes),
    )


async def crowd(fleet: Fleet, beside: int, salt: int, label: str = "") -> list[Stream]:
    """So many requests that decode on each engine, past their prefill; equal for the same ``salt``."""
    streams = [
        await fleet.gateway.add(
            name,
            f"mate-{label or salt}-{name}-{i}",
            prompt_of(100, salt + i),
            max_tokens=3900,
            ignore_eos=True,
            temperature=0.0,
        )
        for name in fleet.agents
        for i in range(beside)
    ]
    for stream in streams:
        await fleet.gateway.until(stream, 5)
    return streams


@dataclass
class Hops:
    """One request that moved to and fro."""

    stream: Stream
    gaps_ms: list[float] = field(default_factory=list)
    steps_ms: list[float] = field(default_factory=list)
    """Its usual ones, before each move."""
    outcomes: list[MigrationOutcome] = field(default_factory=list)


async def hop(fleet: Fleet, prompt: list[int], salt: int, moves: int, sampling: dict[str, Any]) -> Hops:
    """So many moves of a new request, which ends after the last."""
    gateway = fleet.gateway
    stream = await gateway.add("a", f"moved-{salt}-{next(iter(fleet.numbers))}", prompt, **sampling)
    hops = Hops(stream)
    await gateway.until(stream, TOKENS_BETWEEN_MOVES)
    for _ in range(moves):
        began, destination = len(stream.tokens), fleet.other(stream.home).name
        outcome = await fleet.move(stream)
        await gateway.until(stream, len(stream.tokens) + TOKENS_BETWEEN_MOVES)
        if stream.finished:
            break
        if outcome.state != "done":
            raise RuntimeError(f"a move failed: {outcome.reason}")
        hops.gaps_ms.append(stream.gap_ms(stream.first_at(destination, began)))
        hops.steps_ms += [stream.gap_ms(i) for i in range(began - TOKENS_BETWEEN_MOVES + 4, began)]
        hops.outcomes.append(outcome)
    await gateway.abort(stream)
    if not hops.outcomes:
        raise RuntimeError(f"a request of {len(prompt)} tokens ended before its first move did")
    return hops


async def compare(
    fleet: Fleet, prompt: list[int], name: str, sampling: dict[str, Any], *moved: Stream
) -> None:
    """With one that never moves."""
    wanted = max(len(stream.tokens) for stream in moved)
    calm = await fleet.gateway.add("b", name, prompt, **(sampling | {"max_tokens": wanted}))
    await fleet.gateway.until(calm, wanted)
    for stream in moved:
        fleet.compare(stream, calm)


async def recompute(fleet: Fleet, length: int, salt: int) -> float:
    """The pause when its tokens are computed anew on the other engine, which never saw its prompt."""
    prompt = prompt_of(length, salt)
    sampling: dict[str, Any] = {"max_tokens": 40, "ignore_eos": True, "temperature": 0.0}
    stream = await fleet.gateway.add("a", f"again-{salt}", prompt, **sampling)
    await fleet.gateway.until(stream, 10)
    await fleet.gateway.abort(stream)
    stream.finished = False
    await fleet.gateway.add("b", stream.request_id, prompt, prior=stream.tokens, **sampling)
    await fleet.gateway.until(stream, 40)
    return stream.gap_ms(stream.first_at("b", 0))


# ---------------------------------------------------------------- what the others feel


async def batchmates(fleet: Fleet, beside: int, length: int, pairs: int, salt: int) -> float:
    """Mean step of the others while one moves over that before and after; median of the pairs."""
    gateway = fleet.gateway
    mates = await crowd(fleet, beside, salt)
    sampling: dict[str, Any] = {"max_tokens": 480, "ignore_eos": True, "temperature": 0.0}
    ratios: list[float] = []
    while len(ratios) < pairs:
        number = next(iter(fleet.numbers))
        stream = await gateway.add(
            "a", f"mover-{salt}-{number}", prompt_of(length, salt + number), **sampling
        )
        await gateway.until(stream, 10)
        while len(ratios) < pairs and len(stream.tokens) < 380:
            await gateway.until(stream, len(stream.tokens) + 16)
            began = time.perf_counter()
            await fleet.move(stream)
            ended = time.perf_counter()
            lasted = ended - began
            await gateway.until(stream, len(stream.tokens) + 3)
            await asyncio.sleep(max(0.0, ended + lasted + 0.02 - time.perf_counter()))
            during = steps_between(mates, began, ended)
            calm = steps_between(mates, began - lasted - 0.01, began - 0.01)
            calm += steps_between(mates, ended + 0.01, ended + lasted + 0.01)
            if during and calm:
                ratios.append(statistics.mean(during) / statistics.mean(calm))
        await gateway.abort(stream)
    for mate in mates:
        await gateway.abort(mate)
    return statistics.median(ratios)


def steps_between(streams: Iterable[Stream], began: float, ended: float) -> list[float]:
    """Gaps between tokens that overlap the period."""
    return [
        stream.at_s[i] - stream.at_s[i - 1]
        for stream in streams
        for i in range(1, len(stream.at_s))
        if stream.at_s[i] > began and stream.at_s[i - 1] < ended
    ]


@dataclass
class Period:
    """The same requests making the same number of tokens."""

    tokens: int
    cpu_s: float
    wall_s: float
    moves: int


@dataclass
class Throughput:
    """Tokens with and without one request always on the move."""

    calm: list[Period]
    moving: list[Period]

    @property
    def moves(self) -> int:
        return sum(period.moves for period in self.moving)

    def ratio(self, of: Callable[[Period], float]) -> float:
        """Moving over calm, pair by pair; the median."""
        pairs = zip(self.calm, self.moving, strict=True)
        return statistics.median(of(moving) / of(calm) for calm, moving in pairs)


def tokens_per_cpu_s(period: Period) -> float:
    """Of the agents' processes: what a busy machine distorts least."""
    return period.tokens / period.cpu_s


def tokens_per_s(period: Period) -> float:
    return period.tokens / period.wall_s


async def throughput(fleet: Fleet, plan: Plan, salt: int) -> Throughput:
    """Pairs of periods, every second pair in the other order."""
    periods: dict[bool, list[Period]] = {False: [], True: []}
    for pair in range(plan.throughput_pairs):
        for moving in (False, True) if pair % 2 == 0 else (True, False):
            periods[moving].append(await period(fleet, plan, f"{salt}-{pair}-{moving}", moving))
    return Throughput(periods[False], periods[True])


async def period(fleet: Fleet, plan: Plan, name: str, moving: bool) -> Period:
    """Eight requests on each engine, from their prefill on."""
    streams = await crowd(fleet, 8, 200, name)
    before, moves, waiting = tokens_of(streams), 0, deque(streams)
    cpu_s, began = await fleet.cpu_s(), time.perf_counter()
    while tokens_of(streams) < before + plan.period_tokens * len(streams):
        if moving:
            moves += (await fleet.move(next_to_move(waiting))).state == "done"
        else:
            await asyncio.sleep(0.02)
    made = tokens_of(streams) - before
    result = Period(made, await fleet.cpu_s() - cpu_s, time.perf_counter() - began, moves)
    for stream in streams:
        await fleet.gateway.abort(stream)
    return result


def tokens_of(streams: Iterable[Stream]) -> int:
    return sum(len(stream.tokens) for stream in streams)


def next_to_move(waiting: deque[Stream]) -> Stream:
    """Who has not moved for longest, of the engine that has more: both stay equally busy."""
    here = sum(stream.home == "a" for stream in waiting)
    home = "a" if 2 * here >= len(waiting) else "b"
    chosen = next(stream for stream in waiting if stream.home == home)
    waiting.remove(chosen)
    waiting.append(chosen)
    return chosen


# ---------------------------------------------------------------- the report


def figures(cells: list[Cell]) -> dict[str, float]:
    """The issue's figures, from idle engines and from busy ones: the worst of each."""
    idle = {cell.length: cell for cell in cells if cell.beside == 0}
    short, long = min(idle), max(idle)
    return {
        "extra_stall_over_step": max(cell.extra for cell in cells),
        "extra_stall_over_step_idle": max(cell.extra for cell in idle.values()),
        "flatness": idle[long].gap_ms / idle[short].gap_ms,
        "recompute_over_stall_3600": idle[long].recompute_gap_ms / idle[long].gap_ms,
        "blocking_over_stall_3600": idle[long].blocking_gap_ms / idle[long].gap_ms,
    }


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_cell(cell: Cell) -> None:
    say(
        f"{cell.length:>7} {cell.beside:>6} {cell.step_ms:>8.2f} {cell.gap_ms:>8.2f} {cell.gap_p95_ms:>8.2f} "
        f"{cell.extra:>7.2f} {cell.frozen_ms:>8.2f} {cell.blocking_gap_ms:>9.1f} "
        f"{cell.recompute_gap_ms:>10.1f} {cell.stages:>6.1f} {cell.moves:>5}"
    )


def show_figures(result: dict[str, Any]) -> None:
    say(f"\n{'figure':<28}{'value':>9}{'floor':>9}{'goal':>8}")
    for name, (floor, goal, direction) in FLOORS.items():
        value = result[name]
        sign = 1 if direction == "at most" else -1
        verdict = "goal met" if sign * value <= sign * goal else "MISSED"
        if verdict == "MISSED" and sign * value <= sign * floor:
            verdict = "floor met"
        say(f"{name:<28}{value:>9.3f}{floor:>9g}{goal:>8g}  {verdict}")


async def measure(plan: Plan, configs: Sequence[AgentConfig], keys: LinkKeys | None) -> dict[str, Any]:
    async with agents(*configs) as started:
        gateway = TimingGateway(vllm_request)
        fleet = Fleet({agent.name: agent for agent in started}, gateway)
        for agent in started:
            await gateway.connect(agent, keys.speak if keys else lambda socket: None)
        try:
            return await measured(plan, fleet)
        finally:
            await gateway.close()


async def measured(plan: Plan, fleet: Fleet) -> dict[str, Any]:
    await hop_once(fleet)
    head = ("length", "beside", "step ms", "gap ms", "p95", "extra", "frozen", "blocking", "recompute")
    widths = (7, 6, 8, 8, 8, 7, 8, 9, 10)
    say(" ".join(f"{name:>{width}}" for name, width in zip(head, widths, strict=True)) + " stages moves")
    cells = []
    for salt, (beside, length) in enumerate(itertools.product(plan.beside, plan.lengths)):
        cells.append(await pause_of(fleet, length, beside, plan, salt))
        show_cell(cells[-1])
    mates = {n: await batchmates(fleet, n, 2048, plan.mate_pairs, 100 + n) for n in plan.beside if n}
    rates = await throughput(fleet, plan, 200)
    say(f"\nbatch-mates' step while one moves: {', '.join(f'{n}: {r:.3f}' for n, r in mates.items())}")
    ratio, wall_ratio = rates.ratio(tokens_per_cpu_s), rates.ratio(tokens_per_s)
    calm, moving = (
        statistics.median(tokens_per_cpu_s(one) for one in each) for each in (rates.calm, rates.moving)
    )
    say(
        f"tokens per CPU second without moves {calm:.0f}, with {rates.moves} moves {moving:.0f} "
        f"({ratio:.3f}; by the clock {wall_ratio:.3f})"
    )
    return {
        "lengths": list(plan.lengths),
        **figures(cells),
        "batchmates_step_ratio": max(mates.values()),
        "batchmates_by_load": mates,
        "throughput_ratio": ratio,
        "throughput_wall_ratio": wall_ratio,
        "throughput_moves": rates.moves,
        "identical": fleet.identical,
        "total": fleet.total,
        "identical_share": fleet.identical / fleet.total,
        "cells": [vars(cell) for cell in cells],
    }


async def hop_once(fleet: Fleet) -> None:
    """First uses: connections between agents, code paths of both sides."""
    sampling: dict[str, Any] = {"max_tokens": 400, "ignore_eos": True, "temperature": 0.0}
    hops = await hop(fleet, prompt_of(300, 999), 999, 4, sampling)
    await compare(fleet, prompt_of(300, 999), "first", sampling, hops.stream)


def agent_configs(model: Path, **changes: Any) -> list[AgentConfig]:
    return [
        AgentConfig(
            instance_id=name,
            pool="benchmark",
            served_model="tiny",
            model=str(model),
            redis_url="",
            kv_memory_bytes=CAPACITY_BYTES // 2,
            gateway_timeout_s=30.0,
            migration_slots=4,
            **changes,
        )
        for name in ("a", "b")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two lengths, few moves: under a minute")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--secured", action="store_true", help="authenticated, encrypted links")
    parser.add_argument("--transfer", default="auto", help="how blocks travel: auto, shm, zmq, nixl")
    parser.add_argument("--model", type=Path, help="a model's folder (default: the tiny one, made anew)")
    parser.add_argument(
        "--block-size", type=int, default=0, help="tokens per KV block (default: the engine's)"
    )
    options = parser.parse_args()
    plan = Plan.quick() if options.quick else Plan()
    with tempfile.TemporaryDirectory(prefix="live-migration-") as folder, suppress(KeyboardInterrupt):
        model = options.model or make_model(Path(folder))
        engine_args = {"block_size": options.block_size} if options.block_size else {}
        secret = "the benchmark's own secret" if options.secured else ""
        configs = agent_configs(model, engine_args=engine_args, transfer=options.transfer, link_secret=secret)
        result = asyncio.run(measure(plan, configs, gateway_keys(secret)))
        result |= {"secured": options.secured, "transfer": options.transfer}
        result["load_average"] = os.getloadavg()[0]
        show_figures(result)
        if options.json:
            options.json.write_text(json.dumps(result, indent=1))


def make_model(folder: Path) -> Path:
    from engine_agents.vllm_engine.tiny_model import make_tiny_model

    return make_tiny_model(folder / "tiny")


if __name__ == "__main__":
    main()
