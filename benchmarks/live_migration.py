"""What a live migration costs: the pause of who moves, and what everybody else feels of it.

    python -m benchmarks.live_migration [--quick] [--json FILE]

Two real vLLM engines on a tiny model, each in a process of its own; requests move
to and fro between them while a gateway times every token.

* *step*: the usual time between two tokens of that request, on either engine.
* *gap*: from the source's last token to the destination's first, as the gateway sees it.
* *blocking copy*: the same hand-over, but frozen before the first block is copied.
* *flatness*: the gap of the longest over that of the shortest, both alone, round by round.
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
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.live_migration_fleet import Fleet, Plan
from benchmarks.live_migration_others import batchmates, throughput, tokens_per_cpu_s, tokens_per_s
from benchmarks.live_migration_pause import Cell, hop_once, pauses
from benchmarks.migration_fleet import TimingGateway, agents, vllm_request
from engine_agents.config import AgentConfig
from engine_agents.link_security import LinkKeys, gateway_keys

FLOORS = {
    "extra_stall_over_step": (2.0, 1.0, "at most"),
    "flatness": (2.0, 1.5, "at most"),
    "recompute_over_stall_3600": (25.0, 40.0, "at least"),
    "batchmates_step_ratio": (1.1, 1.05, "at most"),
    "throughput_ratio": (0.75, 0.9, "at least"),
    "identical_share": (1.0, 1.0, "at least"),
}
"""Figure -> floor, goal, direction."""
CAPACITY_BYTES = 1200 * 2**20


def figures(cells: list[Cell]) -> dict[str, float]:
    """From idle engines and from busy ones: the worst of each."""
    idle = {cell.length: cell for cell in cells if cell.beside == 0}
    short, long = min(idle), max(idle)
    return {
        "extra_stall_over_step": max(cell.extra for cell in cells),
        "extra_stall_over_step_idle": max(cell.extra for cell in idle.values()),
        "flatness": statistics.median(
            after / before
            for before, after in zip(idle[short].round_gaps_ms, idle[long].round_gaps_ms, strict=True)
        ),
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
    cells: list[Cell] = []
    for number, beside in enumerate(plan.beside):
        for cell in await pauses(fleet, beside, plan, number * len(plan.lengths)):
            cells.append(cell)
            show_cell(cell)
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
