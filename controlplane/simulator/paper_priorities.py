"""Figure 13: a tenth of the requests are of a higher class, arrivals come in bursts.

The class has both priorities of the paper: it is served first, and other classes fill an
instance that hosts it only up to 1,600 tokens. *Base* is the same policy on the same
requests with classes of one rank and no target load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controlplane.scheduling.snapshot import ClassRule
from controlplane.simulator.grid import Job, WorkloadSpec
from controlplane.simulator.paper_grid import Options, Results, known, policy_for
from controlplane.simulator.readings import Reading

FIGURE = "13"
HIGH, NORMAL = "interactive", "standard"
HIGH_SHARE = 0.1
RATE_PER_S = 26.0
TARGET_LOAD_TOKENS = 1600
QUICK_CVS = (4,)

SYSTEMS: dict[str, tuple[str, bool]] = {
    "llumnix_base": ("llumnix_base", False),
    "llumnix": ("llumnix", True),
    "llumnix_ledger": ("llumnix_ledger", True),
    "llumdeck base": ("llumdeck", False),
    "llumdeck": ("llumdeck", True),
}
"""Name in tables -> policy, and whether classes have priorities."""


def class_rules(
    priorities: bool, target_load_tokens: int | None = TARGET_LOAD_TOKENS
) -> tuple[ClassRule, ...]:
    """The two classes, with or without their priorities."""
    normal = ClassRule(NORMAL, rank=1)
    high = ClassRule(HIGH, rank=0, target_load_tokens=target_load_tokens)
    return (high if priorities else replace(normal, name=HIGH), normal)


def jobs(paper: Mapping[str, Any], options: Options) -> list[Job]:
    """Every system on every coefficient of variation and seed."""
    return [
        Job(
            name,
            workload(cv, priorities, options.requests),
            policy_for(policy, "S-S"),
            seed=seed,
            key=(FIGURE, str(cv), str(seed), name),
        )
        for cv in paper["figure_13_priority"]["cv"]
        if not options.quick or cv in QUICK_CVS
        for seed in options.seeds
        for name, (policy, priorities) in SYSTEMS.items()
    ]


def workload(cv: float, priorities: bool, requests: int) -> WorkloadSpec:
    """S-S at 26 requests a second in bursts, a tenth of them of the high class."""
    shares = ((HIGH, HIGH_SHARE), (NORMAL, 1.0 - HIGH_SHARE))
    return WorkloadSpec(
        "S-S", RATE_PER_S, requests, cv=float(cv), shares=shares, classes=class_rules(priorities)
    )


def _reading(slo_class: str, kind: str, figure: str) -> Reading:
    def read(run: Any) -> float:
        group = run.service.classes[slo_class]
        return float(getattr(getattr(group, kind), figure))

    return read


READINGS: dict[str, dict[str, Reading]] = {
    "high": {
        "request_mean_s": _reading(HIGH, "request_s", "mean"),
        "prefill_mean_s": _reading(HIGH, "prefill_s", "mean"),
        "prefill_p99_s": _reading(HIGH, "prefill_s", "p99"),
        "decode_mean_s": _reading(HIGH, "decode_s", "mean"),
        "decode_p99_s": _reading(HIGH, "decode_s", "p99"),
    },
    "normal": {
        "request_mean_s": _reading(NORMAL, "request_s", "mean"),
        "request_p99_s": _reading(NORMAL, "request_s", "p99"),
        "prefill_mean_s": _reading(NORMAL, "prefill_s", "mean"),
        "prefill_p99_s": _reading(NORMAL, "prefill_s", "p99"),
        "decode_mean_s": _reading(NORMAL, "decode_s", "mean"),
    },
}


def cells(paper: Mapping[str, Any], results: Results) -> list[dict[str, Any]]:
    """One row per coefficient of variation and class."""
    curves = paper["figure_13_priority"]
    return [
        _cell(curves[group], curves["cv"].index(int(cv)), cv, group, results)
        for (cv,) in results.cells(FIGURE)
        for group in ("high", "normal")
    ]


def _cell(curves: Mapping[str, Any], index: int, cv: str, group: str, results: Results) -> dict[str, Any]:
    return {
        "cv": int(cv),
        "class": group,
        "paper": {
            name: {system: values[index] for system, values in curve.items()}
            for name, curve in curves.items()
        },
        "ours": {
            system: known(
                {name: results.mean(FIGURE, (cv,), system, read) for name, read in READINGS[group].items()}
            )
            for system in SYSTEMS
            if results.seeds(FIGURE, (cv,), system)
        },
    }


def summary(results: Results) -> dict[str, float]:
    """Geometric means over all coefficients of variation and seeds."""

    def gain(group: str, above: str, below: str) -> float | None:
        return results.overall(FIGURE, above, below, READINGS[group]["request_mean_s"])

    def cost(above: str, below: str) -> float | None:
        ratio = gain("normal", below, above)
        return None if ratio is None else ratio - 1.0

    return known(
        {
            "llumnix_high_gain_over_own_base": gain("high", "llumnix_base", "llumnix"),
            "llumnix_normal_cost": cost("llumnix_base", "llumnix"),
            "llumdeck_high_gain_over_own_base": gain("high", "llumdeck base", "llumdeck"),
            "llumdeck_normal_cost": cost("llumdeck base", "llumdeck"),
            "llumdeck_high_gain_over_llumnix_base": gain("high", "llumnix_base", "llumdeck"),
            "llumdeck_normal_gain_over_llumnix_base": gain("normal", "llumnix_base", "llumdeck"),
        }
    )
