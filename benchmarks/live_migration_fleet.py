"""Two agents, a gateway and what is asked of them: what the parts of ``live_migration`` share."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from benchmarks.migration_fleet import Agent, Stream, TimingGateway
from engine_agents.messages import MigrateOut, MigrationOutcome, encode

LENGTHS = (64, 512, 2048, 3600)
BESIDE = (0, 4, 16)


@dataclass
class Plan:
    """How much is measured."""

    lengths: Sequence[int] = LENGTHS
    beside: Sequence[int] = BESIDE
    rounds: int = 5
    """In each every length has its turn: a machine's speed drifts."""
    moves: int = 3
    """Per round, length and load."""
    blocking_moves: int = 3
    recomputes: int = 2
    mate_pairs: int = 30
    throughput_pairs: int = 4
    period_tokens: int = 200
    """Per stream, in mean."""

    @classmethod
    def quick(cls) -> Plan:
        return cls(
            lengths=(64, 3600),
            beside=(0, 4),
            rounds=3,
            moves=2,
            blocking_moves=1,
            recomputes=1,
            mate_pairs=12,
            throughput_pairs=2,
            period_tokens=160,
        )


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
    """No two begin alike: an engine remembers the blocks of prompts that it has seen."""
    drawn = random.Random(salt)
    return [drawn.randrange(6, 606) for _ in range(length)]


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
