"""Two policies on one trace, in a process of its own with limits (``python -m`` this module).

Standard input is a :class:`Question` as JSON, standard output the answer as JSON. An
error of the asker's making is one line on standard error and exit status 2.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from controlplane.scheduling.config import ConfigError, SchedulingConfig
from controlplane.scheduling.snapshot import ClassRule
from controlplane.simulator import latency
from controlplane.simulator.driver import simulate
from controlplane.simulator.importers import TraceError, read_trace
from controlplane.simulator.latency import LatencyModelError
from controlplane.simulator.metrics import SloTarget, measure_run
from controlplane.simulator.readings import SERVING
from controlplane.simulator.result import SimulationConfig, SimulationError, SimulationResult
from controlplane.simulator.workloads import WorkloadError

USER_ERRORS = (ConfigError, LatencyModelError, SimulationError, TraceError, WorkloadError, ValueError)
MAX_POINTS = 300
CCDF_POINTS = 60
NICE = 15


@dataclass(frozen=True, slots=True)
class Question:
    """What to simulate.

    ``classes`` are rows of name, rank, target load, TTFT and TPOT in seconds; the last three may be ``None``.
    """

    trace: str
    policies: Sequence[dict[str, Any]]
    """Each ``{"name", "config"}``; the first is what the others are compared with."""
    instances: int
    latency: str
    classes: Sequence[Sequence[Any]]
    seed: int = 0
    cpu_limit_s: int = 120
    memory_limit_bytes: int = 2 * 2**30


def answer(question: Question) -> dict[str, Any]:
    """Metrics and series per policy, and how many times better each is than the first."""
    rules = {row[0]: ClassRule(row[0], row[1], row[2]) for row in question.classes}
    slos = {row[0]: SloTarget(row[3], row[4]) for row in question.classes}
    workload = read_trace(question.trace, rules or None).workload
    model = latency.load(question.latency)
    systems: list[dict[str, Any]] = []
    readings = []
    for asked in question.policies:
        config = SimulationConfig(
            SchedulingConfig.from_dict(asked["config"]), question.instances, model, seed=question.seed
        )
        result = simulate(workload, config)
        metrics = measure_run(result, slos or None)
        readings.append({label: read(metrics) for label, read in SERVING.items()})
        systems.append(
            {
                "name": asked["name"],
                "metrics": metrics.to_dict(),
                "series": _series(result),
                "prefill_ccdf": _ccdf([r.first_token_s - r.arrival_s for r in _served(result)]),
                "request_ccdf": _ccdf([r.finished_s - r.arrival_s for r in _served(result)]),
            }
        )
    return {"systems": systems, "times_better": [_better(readings[0], each) for each in readings]}


def _better(first: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {label: value / other[label] for label, value in first.items() if value > 0 and other[label] > 0}


def _served(result: SimulationResult) -> list[Any]:
    return [record for record in result.records if record.finished_s >= 0]


def _series(result: SimulationResult) -> dict[str, list[float]]:
    """At most :data:`MAX_POINTS` samples, evenly taken."""
    step = max(1, -(-len(result.samples) // MAX_POINTS))
    chosen = [asdict(sample) for sample in result.samples[::step]]
    names = ("at_s", "used_share", "fragmentation", "running", "waiting", "instances")
    return {name: [round(float(sample[name]), 5) for sample in chosen] for name in names}


def _ccdf(times_s: Sequence[float]) -> list[list[float]]:
    """Pairs of seconds and the share of requests that took longer, dense where the share is small."""
    if not times_s:
        return []
    shares = np.geomspace(1.0, 1.0 / len(times_s), min(CCDF_POINTS, len(times_s)))
    seconds = np.quantile(np.array(times_s), 1.0 - shares)
    return [[round(float(s), 6), round(float(share), 6)] for s, share in zip(seconds, shares, strict=True)]


def limit_this_process(question: Question) -> None:
    """A question that is too big ends this process, never the worker that asked or the loop beside it."""
    os.nice(NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (question.cpu_limit_s, question.cpu_limit_s + 5))
    resource.setrlimit(resource.RLIMIT_AS, (question.memory_limit_bytes, question.memory_limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> int:
    try:
        question = Question(**json.load(sys.stdin))
        limit_this_process(question)
        found = answer(question)
    except MemoryError:
        print("the simulation needs more memory than it may have", file=sys.stderr)
        return 2
    except USER_ERRORS as error:
        print(error, file=sys.stderr)
        return 2
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
