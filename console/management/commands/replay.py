"""``manage.py replay``: drive a gateway with a trace (or a generated workload) and say how it felt."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from rich.console import Console

from console.process.bootstrap import DEMO_TENANTS, read_keys
from console.process.run_directory import read_note
from console.replay import fleet, report
from console.replay.client import Door, Felt
from console.replay.drive import Pace, Target, ask_model, drive
from console.replay.progress import Tally, shown
from console.replay.shots import ReplayError, Shot, parse_shares, plan_shots
from controlplane.simulator.importers import TraceError, read_trace
from controlplane.simulator.workloads import Workload, WorkloadError, generate

DEFAULT_URL = "http://127.0.0.1:8801"
SERVICE_TIERS = {"interactive": "priority", "standard": "default", "batch": "flex"}
"""OpenAI's names, with which one key asks for several classes."""
MAX_GENERATED = 200_000


class Command(BaseCommand):
    help = "Drive a gateway like clients do, with a production trace or a generated workload."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--trace", type=Path, help="CSV with TIMESTAMP, ContextTokens, GeneratedTokens (Azure's schema)")
        add("--mix", default="", help="instead of a trace: generated lengths, e.g. M-M, S-L, ShareGPT")
        add("--rate", type=float, default=2.0, help="requests per second of a generated workload")
        add("--cv", type=float, default=1.0, help="burstiness of a generated workload (1: Poisson)")
        add("--speed", type=float, default=1.0, help="how many times as fast as the workload (default 1)")
        add("--duration", type=float, default=60.0, help="seconds of sending (default 60)")
        add(
            "--scale", type=float, default=0.0, help="factor of all lengths; default: fit the model's context"
        )
        add("--classes", default="", help="shares of SLO classes: interactive=0.3,standard=0.5,batch=0.2")
        add(
            "--skew",
            type=float,
            default=0.0,
            metavar="S",
            help="all but one instance drained for the first S s",
        )
        add("--url", default="", help="the gateway; default: the one that make up runs here")
        add("--key", default="", help="a tenant's key; default: those of make up, one tenant per class")
        add("--model", default="", help="served model; default: the first")
        add("--seed", type=int, default=0)
        add("--max-open", type=int, default=0, metavar="N", help="wait with sending while N are open")
        add("--every", type=float, default=0.0, metavar="S", help="a line every S seconds instead of bars")
        add("--json", type=Path, help="write all figures here")

    def handle(self, *args: Any, **given: Any) -> None:
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request is no progress display
        try:
            outcome = asyncio.run(_replay(given, Console(highlight=False)))
        except (ReplayError, TraceError, WorkloadError) as error:
            raise CommandError(str(error)) from error
        if given["json"]:
            given["json"].write_text(json.dumps(outcome.as_dict(), indent=2) + "\n")
        if outcome.failed:
            sys.exit(1)


@dataclass(frozen=True, slots=True)
class Outcome:
    workload: str
    felt: list[Felt]
    deeds: fleet.Deeds | None
    wall_s: float

    @property
    def failed(self) -> int:
        return sum(bool(each.failure) for each in self.felt)

    def as_dict(self) -> dict[str, Any]:
        return {
            "workload": self.workload,
            "wall_s": self.wall_s,
            "classes": {each.slo_class: each.as_dict() for each in report.reports(self.felt)},
            "failures": report.failures(self.felt),
            "fleet": self.deeds.as_dict() if self.deeds else None,
        }


async def _replay(given: dict[str, Any], console: Console) -> Outcome:
    workload = _workload(given)
    url = given["url"] or str(read_note(settings.STATE_DIR).get("gateway", DEFAULT_URL))
    doors = _doors(given["key"])
    model = await ask_model(url, doors["standard"].key, given["model"])
    shots = plan_shots(
        workload,
        speed=given["speed"],
        duration_s=given["duration"],
        context_tokens=model.context_tokens,
        length_scale=given["scale"],
        shares=parse_shares(given["classes"]),
        seed=given["seed"],
    )
    _check_classes(shots, doors)
    console.print(_announcement(workload, shots, url, model.name))
    before, started_at = await asyncio.to_thread(fleet.preemptions_so_far), timezone.now()
    target = Target(url=url, model=model.name, doors=doors)
    pace = Pace(seed=given["seed"], max_open=given["max_open"] or len(shots))
    async with _skew(given["skew"]):
        felt = await _drive_with_progress(shots, target, pace, given["every"], console)
    deeds = await asyncio.to_thread(fleet.deeds_since, started_at, before)
    outcome = Outcome(workload.name, felt, deeds, (timezone.now() - started_at).total_seconds())
    _show(outcome, console)
    return outcome


def _workload(given: dict[str, Any]) -> Workload:
    if bool(given["trace"]) == bool(given["mix"]):
        raise ReplayError("give either --trace FILE or --mix NAME")
    if given["trace"]:
        return read_trace(given["trace"]).workload
    count = min(MAX_GENERATED, int(given["rate"] * given["speed"] * given["duration"] * 2) + 10)
    return generate(given["mix"], given["rate"], requests=count, seed=given["seed"], cv=given["cv"])


def _doors(key: str) -> dict[str, Door]:
    """One key asks for classes by service tier; the keys of ``make up`` belong to a tenant per class."""
    if key:
        return {name: Door(key, tier) for name, tier in SERVICE_TIERS.items()}
    keys = read_keys(settings.STATE_DIR)
    doors = {DEMO_TENANTS[slug]: Door(key) for slug, key in keys.items() if slug in DEMO_TENANTS}
    if len(doors) < len(SERVICE_TIERS):
        raise ReplayError("no tenant keys of make up here: run it first, or give --key")
    return doors


def _check_classes(shots: list[Shot], doors: dict[str, Door]) -> None:
    if not shots:
        raise ReplayError("nothing arrives within --duration: make it longer, or --speed higher")
    unknown = sorted({shot.slo_class for shot in shots} - doors.keys())
    if unknown:
        raise ReplayError(f"SLO class {unknown[0]!r} is unknown here; there are {', '.join(doors)}")


def _announcement(workload: Workload, shots: list[Shot], url: str, model: str) -> str:
    prompts = sum(shot.prompt_tokens for shot in shots)
    outputs = sum(shot.output_tokens for shot in shots)
    return (
        f"{len(shots)} requests of {workload.name} to {model} at {url}: "
        f"{prompts:,} prompt tokens, {outputs:,} output tokens"
    )


@contextlib.asynccontextmanager
async def _skew(seconds: float) -> Any:
    """Out of balance at first: the rest of the fleet joins after ``seconds``, whatever happens."""
    if not seconds:
        yield
        return
    drained = await asyncio.to_thread(fleet.drain_all_but_one)

    async def give_back() -> None:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(fleet.undrain, drained)

    giving_back = asyncio.create_task(give_back())
    try:
        yield
    finally:
        if not giving_back.done():
            giving_back.cancel()
            await asyncio.to_thread(fleet.undrain, drained)


async def _drive_with_progress(
    shots: list[Shot], target: Target, pace: Pace, every_s: float, console: Console
) -> list[Felt]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tally = Tally(len(shots))
    async with shown(tally, console, every_s):
        return await drive(
            shots, target, pace, on_sent=tally.count_sent, on_done=tally.count_answer, stop=stop
        )


def _show(outcome: Outcome, console: Console) -> None:
    console.print(report.table(report.reports(outcome.felt)))
    for kind, count in report.failures(outcome.felt).items():
        console.print(f"failed: {count} × {kind}", style="red")
    if outcome.deeds is None:
        console.print("migrations, preemptions: not known (this is not the fleet's control plane)")
    else:
        console.print(outcome.deeds.sentence())
