"""What priorities are worth on live engines: the high class with and without them, and what others pay.

    python -m benchmarks.live_priority [--quick] [--engine paced|vllm] [--json FILE]

Everything but HTTP, tokenizer and Ray is the product's (see ``benchmarks.live_fleet``), with its default
policy. The load is that of the paper's priority experiment (Llumnix, OSDI'24, section 6.4, figure 13): mix
S-S in bursts (Gamma), a tenth of the requests of the high class, 26 requests a second for 16 instances,
target load 1,600 of 13,360 tokens. ``paced``: 8 engines, and half of the requests, so that two cores suffice;
they sleep as long as the model of LLaMA-7B on an A10 says. Lengths, memory and the policy's numbers of tokens
are divided by :data:`SCALE`, a token of context costs so much more, and so many more requests come: a minute
is as good as eight. ``vllm``: two real engines with the generated model on the CPU.

The same arrivals run twice: once with the classes as they are (rank in every queue, headroom on every
instance), once with all requests in one class. Latency is from the request's arrival to its last token;
gains are without over with, costs with over without, of mean and 99th percentile.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.live_fleet import LABELS, Engines, LiveFleet, Run, Served
from benchmarks.live_requests import Request, Timing, percentile

HIGH, REST = "interactive", "standard"
HIGH_SHARE = 0.1
SCALE = 8
CUT_TAIL = 1.4
"""So many more requests stand for the longest ones, which are cut to end within the minute: the
instances' memory is about as full as the paper's."""
KV_BYTES_PER_TOKEN = 64
TOKEN_NUMBERS = (
    ("dispatch", "unprefilled_limit_tokens"),
    ("queue", "enough_tokens"),
    ("queue", "reserve_tokens"),
    ("rescheduling", "source_threshold_tokens"),
    ("rescheduling", "destination_threshold_tokens"),
)
LATE_LIMIT_MS = 250.0
"""Were requests sent later than that, this machine and not the fleet made the result."""


@dataclass(frozen=True)
class Setting:
    """One kind of engine, and the paper's load on so many of them."""

    engines: Engines
    target_load_tokens: int
    rate_per_s: float
    length_scale: float
    longest_tokens: int
    cv: float = 4.0


SETTINGS = {
    "paced": Setting(
        engines=Engines(
            "paced",
            8,
            {
                "base_step_ms": 29.57,
                "per_sequence_ms": 0.3466,
                "per_prefill_token_ms": 0.2756,
                "per_context_token_ms": 0.0022 * SCALE,
                "block_size_tokens": 16 // SCALE,
                "kv_bytes_per_token": KV_BYTES_PER_TOKEN,
                "max_num_seqs": 256,
                "max_num_batched_tokens": 512 // SCALE,
            },
            835 * 16 // SCALE * KV_BYTES_PER_TOKEN,
        ),
        target_load_tokens=1600 // SCALE,
        rate_per_s=26.0 / 2 * SCALE * CUT_TAIL,
        length_scale=1 / SCALE,
        longest_tokens=400,
    ),
    "vllm": Setting(
        engines=Engines("vllm", 2, {"max_model_len": 1024, "block_size": 32, "dtype": "float32"}, 24 * 2**20),
        target_load_tokens=600,
        rate_per_s=5.0,
        length_scale=0.5,
        longest_tokens=400,
        cv=2.0,
    ),
}


def workload(setting: Setting, seconds: float, seed: int) -> list[Request]:
    """Arrivals and lengths of the paper's generator; who is high is drawn apart from them."""
    from controlplane.simulator.arrivals import arrival_times
    from controlplane.simulator.lengths import draw_mix

    count = int(setting.rate_per_s * seconds)
    prompts, outputs = draw_mix("S-S", count, seed)
    times = arrival_times(setting.rate_per_s, count, seed, setting.cv).tolist()
    chance = random.Random(seed)

    def scaled(length: Any) -> int:
        return min(setting.longest_tokens, max(2, round(setting.length_scale * int(length))))

    return [
        Request(at_s, scaled(prompt), scaled(output), group=HIGH if chance.random() < HIGH_SHARE else REST)
        for at_s, prompt, output in zip(times, prompts, outputs, strict=True)
    ]


def serve(fleet: LiveFleet, setting: Setting, requests: Sequence[Request], seed: int, form: str) -> Served:
    """``with`` or ``without`` priorities."""
    from controlplane.tenancy.types import ClassTerms

    if form == "with":
        requests = [replace(each, slo_class=each.group) for each in requests]
    terms = {
        HIGH: ClassTerms(0, 500, 50, setting.target_load_tokens, "priority"),
        REST: ClassTerms(1, 2000, 80, None, "default"),
    }
    return fleet.serve(Run(requests, policy(setting), terms, seed))


def policy(setting: Setting) -> dict[str, Any]:
    """The default policy; its numbers of tokens are as much smaller as requests and memory are."""
    from controlplane.scheduling.config import SchedulingConfig

    config = SchedulingConfig.recommended().to_dict()
    for part, name in TOKEN_NUMBERS:
        given = config[part][name]
        config[part][name] = type(given)(given * setting.length_scale)
    config["queue"]["beta_s_per_token"] /= setting.length_scale
    config["queue"]["rehome_beta_s_per_token"] /= setting.length_scale
    return config


def of_group(timings: Sequence[Timing], group: str) -> dict[str, float]:
    mine = [each for each in timings if each.request.group == group]
    latency, ttft = [each.end_to_end_ms for each in mine], [each.ttft_ms for each in mine if each.served]
    return {
        "requests": len(mine),
        "failed": sum(not each.served for each in mine),
        "mean_ms": round(statistics.mean(latency), 1),
        "p99_ms": percentile(latency, 99),
        "ttft_mean_ms": round(statistics.mean(ttft), 1),
        "ttft_p99_ms": percentile(ttft, 99),
    }


def notes_of(served: Served) -> dict[str, float]:
    seen = {name: served.counters.get(name, 0) for name in ("preempted", "rehomed", "refused")}
    return seen | {"migrations": served.migrations, "driver_late_p99_ms": served.driver_late_p99_ms}


Table = Mapping[str, Mapping[str, Mapping[str, float]]]


def compare(table: Table) -> dict[str, float]:
    """Gains of the high class and costs of the others."""
    without, with_them = table["without"], table["with"]

    def gain(group: str, figure: str) -> float:
        return round(without[group][figure] / with_them[group][figure], 3)

    return {
        "high_mean_gain": gain(HIGH, "mean_ms"),
        "high_p99_gain": gain(HIGH, "p99_ms"),
        "high_ttft_mean_gain": gain(HIGH, "ttft_mean_ms"),
        "high_ttft_p99_gain": gain(HIGH, "ttft_p99_ms"),
        "others_mean_cost": round(1 / gain(REST, "mean_ms"), 3),
        "others_p99_cost": round(1 / gain(REST, "p99_ms"), 3),
    }


def problems(table: Table, notes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Why the result should not be quoted; empty when it may be."""
    found = []
    if any(row["failed"] for form in table.values() for row in form.values()):
        found.append("requests failed or did not end in time")
    if any(each["driver_late_p99_ms"] > LATE_LIMIT_MS for each in notes.values()):
        found.append("this machine was too busy: requests were sent late")
    return found


def measure(args: argparse.Namespace, setting: Setting, folder: Path) -> dict[str, Any]:
    timings: dict[str, list[Timing]] = {"without": [], "with": []}
    notes: dict[str, dict[str, float]] = {}
    with LiveFleet(setting.engines, folder) as fleet:
        for seed in range(1, args.seeds + 1):
            requests = workload(setting, args.seconds, seed)
            for form in timings if seed % 2 else reversed(timings):
                started_s = time.monotonic()
                served = serve(fleet, setting, requests, seed, form)
                timings[form] += served.timings
                took_s = round(time.monotonic() - started_s, 1)
                notes[f"{form}, seed {seed}"] = notes_of(served) | {"seconds": took_s}
    table = {
        form: {group: of_group(found, group) for group in (HIGH, REST)} for form, found in timings.items()
    }
    return {
        "benchmark": "live_priority",
        "engine": LABELS[args.engine],
        "instances": setting.engines.instances,
        "rate_per_s": setting.rate_per_s,
        "cv": setting.cv,
        **compare(table),
        "valid": not problems(table, notes),
        "problems": problems(table, notes),
        "latency": table,
        "notes": notes,
        "load_average": os.getloadavg(),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="under a minute; one seed")
    parser.add_argument("--engine", choices=sorted(SETTINGS), default="paced")
    parser.add_argument("--seconds", type=float, default=30.0, help="of arrivals")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second; default: the setting's")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.seconds, args.seeds = 12.0, 1
    return args


def main() -> None:
    args = parse()
    logging.disable(logging.WARNING)
    setting = SETTINGS[args.engine]
    if args.rate:
        setting = replace(setting, rate_per_s=args.rate)
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-priority-"))
    try:
        result = measure(args, setting, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = json.dumps(result, indent=1)
    print(text)
    if args.json:
        args.json.write_text(text)


if __name__ == "__main__":
    main()
