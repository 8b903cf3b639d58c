"""What rescheduling is worth to the tail, live: the same skewed load with it off and on, in pairs.

    python -m benchmarks.live_tail [--quick] [--instances 16] [--engines paced|vllm] [--seeds 3] [--json FILE]

Everything but HTTP, tokenizer and Ray is the product's (see ``benchmarks.live_fleet``). With ``paced``
(the default) the model's arithmetic is replaced by a sleep, so that two cores do not decide the result:
*simulated engines*. With ``vllm`` engines are real, two by default. The policy is Llumnix's, which binds
at once, so that what is off and on is rescheduling alone. Prompts are short and answers heavy-tailed (mix
S-L of the Llumnix evaluation); for the first quarter of the time only a quarter of the instances takes
work. Ratios are off : on, above 1 is better.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.live_fleet import LABELS, Engines, LiveFleet, Run, Served
from benchmarks.live_requests import Request, percentile

ENGINE_ARGS: Mapping[str, Mapping[str, Any]] = {
    "paced": {"base_step_ms": 30.0, "max_num_seqs": 256},
    "vllm": {"max_model_len": 512, "block_size": 32, "dtype": "float32"},
}
KV_BYTES = {"paced": 2**20, "vllm": 6 * 2**20}
LENGTH_SCALE = {"paced": 0.25, "vllm": 0.5}
LONGEST_TOKENS = 250
LATENCIES = ("ttft_p50_ms", "ttft_p99_ms", "end_to_end_p50_ms", "end_to_end_p99_ms")
THRESHOLDS = {"source_threshold_tokens": 48.0, "destination_threshold_tokens": 48.0}
LATE_LIMIT_MS = 250.0
"""Were requests sent later than that, this machine and not the fleet made the result."""


def draw_load(options: argparse.Namespace, seed: int) -> list[Request]:
    """Gamma arrivals of coefficient of variation 2; lengths of the mix, scaled to small engines."""
    from controlplane.simulator.arrivals import arrival_times
    from controlplane.simulator.lengths import draw_mix

    count = int(options.rate * options.duration)
    scale = LENGTH_SCALE[options.engines]

    def scaled(lengths: Any) -> list[int]:
        return [min(LONGEST_TOKENS, max(2, round(scale * int(each)))) for each in lengths]

    prompts, outputs = map(scaled, draw_mix("S-L", count, seed))
    times = arrival_times(options.rate, count, seed, 2.0).tolist()
    return [Request(*each) for each in zip(times, prompts, outputs, strict=True)]


def serve(
    fleet: LiveFleet, options: argparse.Namespace, seed: int, *, rescheduling: bool
) -> dict[str, float]:
    """The figures of one run."""
    from controlplane.tenancy.types import ClassTerms

    run = Run(
        requests=draw_load(options, seed),
        config={"policy": "llumnix", "rescheduling": {"enabled": rescheduling, **THRESHOLDS}},
        terms={"standard": ClassTerms(1, None, None, None, "default")},
        seed=seed,
        skew_s=options.duration / 4,
    )
    return figures(fleet.serve(run))


def figures(served: Served) -> dict[str, float]:
    """Of what was served; how many were not stands beside it."""
    whole = [each for each in served.timings if each.served]
    ttft, end_to_end = [each.ttft_ms for each in whole], [each.end_to_end_ms for each in whole]
    return {
        "requests": len(served.timings),
        "failed": served.failed,
        "ttft_p50_ms": percentile(ttft, 50),
        "ttft_p99_ms": percentile(ttft, 99),
        "end_to_end_p50_ms": percentile(end_to_end, 50),
        "end_to_end_p99_ms": percentile(end_to_end, 99),
        "preemptions": served.preemptions,
        "migrations": served.migrations,
        "driver_late_p99_ms": served.driver_late_p99_ms,
    }


Pair = Mapping[str, Mapping[str, float]]


def compare(pairs: Sequence[Pair]) -> dict[str, float]:
    """Geometric means of off : on; preemptions with one added to both, as there may be none."""
    ratios = {
        f"{name}_ratio": round(
            statistics.geometric_mean([pair["off"][name] / pair["on"][name] for pair in pairs]), 3
        )
        for name in LATENCIES
    }
    preempted = [(pair["off"]["preemptions"] + 1) / (pair["on"]["preemptions"] + 1) for pair in pairs]
    return {**ratios, "preemptions_ratio": round(statistics.geometric_mean(preempted), 3)}


def problems(pairs: Sequence[Pair]) -> list[str]:
    """Why the result should not be quoted; empty when it may be."""
    runs = [run for pair in pairs for run in pair.values()]
    found = []
    if any(run["failed"] for run in runs):
        found.append("requests failed or did not end in time")
    if any(run["driver_late_p99_ms"] > LATE_LIMIT_MS for run in runs):
        found.append("this machine was too busy: requests were sent late")
    if not all(pair["on"]["migrations"] for pair in pairs) or any(
        pair["off"]["migrations"] for pair in pairs
    ):
        found.append("there were no migrations with rescheduling on, or some with it off")
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one pair of short runs, under a minute")
    parser.add_argument("--engines", choices=sorted(KV_BYTES), default="paced")
    parser.add_argument("--instances", type=int, help="default 16, with vllm 2")
    parser.add_argument("--seeds", type=int, help="pairs of runs (default 3, quick 1)")
    parser.add_argument("--rate", type=float, help="requests per second")
    parser.add_argument("--duration", type=float, help="seconds of arrivals (default 30, quick 12)")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    real = options.engines == "vllm"
    options.instances = options.instances or (2 if real else 16)
    options.seeds = options.seeds or (1 if options.quick else 3)
    options.duration = options.duration or (12.0 if options.quick else 30.0)
    options.rate = options.rate or (9.0 if real else 2.0 * options.instances)
    return options


def measure(fleet: LiveFleet, options: argparse.Namespace) -> list[Pair]:
    pairs: list[Pair] = []
    for seed in range(1, options.seeds + 1):
        order = [False, True] if seed % 2 else [True, False]
        pair = {("on" if each else "off"): serve(fleet, options, seed, rescheduling=each) for each in order}
        pairs.append(pair)
        print(json.dumps(pair), flush=True)
    return pairs


def main() -> None:
    options = parse()
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="llumdeck-tail-"))
    args = ENGINE_ARGS[options.engines]
    try:
        with LiveFleet(
            Engines(options.engines, options.instances, args, KV_BYTES[options.engines]), folder
        ) as fleet:
            pairs = measure(fleet, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "benchmark": "live_tail",
        "engines": LABELS[options.engines],
        "instances": options.instances,
        "rate_per_s": options.rate,
        "duration_s": options.duration,
        **compare(pairs),
        "valid": not problems(pairs),
        "problems": problems(pairs),
        "pairs": pairs,
        "load_average": os.getloadavg(),
    }
    print(json.dumps(result, indent=2))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
