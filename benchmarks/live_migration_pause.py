"""The pause of a request that moves: beside its usual step, a blocking copy and a recomputation."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

from benchmarks.live_migration_fleet import Fleet, Plan, crowd, prompt_of
from benchmarks.migration_fleet import Stream
from engine_agents.messages import MigrationOutcome

TOKENS_BETWEEN_MOVES = 14


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
    round_gaps_ms: list[float] = field(default_factory=list)
    """The median of each round."""

    @property
    def extra(self) -> float:
        return (self.gap_ms - self.step_ms) / self.step_ms


async def pauses(fleet: Fleet, beside: int, plan: Plan, salt: int) -> list[Cell]:
    """Moves to and fro of one request of each length in turn, beside so many others on each engine."""
    found = [Pauses(fleet, length, beside, plan, salt + i) for i, length in enumerate(plan.lengths)]
    for number in range(plan.rounds):
        mates = await crowd(fleet, beside, salt, f"{salt}-{number}")
        for each in found:
            await each.move()
        if number == 0:
            for each in found:
                await each.compare()
        for mate in mates:
            await fleet.gateway.abort(mate)
    return [await each.cell() for each in found]


class Pauses:
    """What one length at one load shows, round by round."""

    def __init__(self, fleet: Fleet, length: int, beside: int, plan: Plan, salt: int) -> None:
        tokens = (max(plan.moves, plan.blocking_moves) + 2) * (TOKENS_BETWEEN_MOVES + 40)
        self._sampling: dict[str, Any] = {
            "max_tokens": min(4090 - length, tokens),
            "ignore_eos": True,
            "temperature": 1.0,
            "seed": salt + 1,
        }
        self._fleet, self._plan, self._salt = fleet, plan, salt
        self._length, self._beside = length, beside
        self._prompt = prompt_of(length, salt)
        self._rounds: list[Hops] = []
        self._blocking: Hops
        self._recomputed_ms: list[float] = []

    async def move(self) -> None:
        hops = await hop(self._fleet, self._prompt, self._salt, self._plan.moves, self._sampling)
        self._rounds.append(hops)

    async def compare(self) -> None:
        """Copying while it stands still, and computing all anew."""
        await self._fleet.configure(max_stages=0)
        self._blocking = await hop(
            self._fleet, self._prompt, self._salt, self._plan.blocking_moves, self._sampling
        )
        await self._fleet.configure(max_stages=8)
        self._recomputed_ms = [
            await recompute(self._fleet, self._length, 1000 * (self._salt + 1) + i)
            for i in range(self._plan.recomputes)
        ]

    async def cell(self) -> Cell:
        streams = [hops.stream for hops in (*self._rounds, self._blocking)]
        await compare(self._fleet, self._prompt, f"calm-{self._salt}", self._sampling, *streams)
        gaps_ms = sorted(gap for hops in self._rounds for gap in hops.gaps_ms)
        outcomes = [outcome for hops in self._rounds for outcome in hops.outcomes]
        return Cell(
            length=self._length,
            beside=self._beside,
            step_ms=statistics.median(step for hops in self._rounds for step in hops.steps_ms),
            gap_ms=statistics.median(gaps_ms),
            gap_p95_ms=gaps_ms[int(0.95 * (len(gaps_ms) - 1))],
            blocking_gap_ms=statistics.median(self._blocking.gaps_ms),
            recompute_gap_ms=statistics.median(self._recomputed_ms),
            stages=statistics.mean(len(one.stages) for one in outcomes),
            moves=len(gaps_ms),
            frozen_ms=statistics.median(one.downtime_ms for one in outcomes),
            round_gaps_ms=[statistics.median(hops.gaps_ms) for hops in self._rounds],
        )


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


async def hop_once(fleet: Fleet) -> None:
    """First uses: connections between agents, code paths of both sides."""
    sampling: dict[str, Any] = {"max_tokens": 400, "ignore_eos": True, "temperature": 0.0}
    hops = await hop(fleet, prompt_of(300, 999), 999, 4, sampling)
    await compare(fleet, prompt_of(300, 999), "first", sampling, hops.stream)
