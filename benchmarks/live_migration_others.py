"""What the others feel of migrations: the step of batch-mates, and the tokens of all."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from benchmarks.live_migration_fleet import Fleet, Plan, crowd, prompt_of
from benchmarks.migration_fleet import Stream


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
