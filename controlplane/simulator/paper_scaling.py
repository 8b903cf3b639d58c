"""Figures 14 and 15: a fleet of 1 to 16 instances that grows and shrinks, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any

from controlplane.simulator.grid import Job, WorkloadSpec
from controlplane.simulator.metrics import geometric_mean
from controlplane.simulator.paper_grid import Key, Options, Results, known, policy_for
from controlplane.simulator.readings import Reading

FIGURE_SCALING, FIGURE_COST = "14", "15"
MIX = "L-L"
FIRST_INSTANCES, MOST_INSTANCES = 8, 16
BLOCK_TOKENS = 16
EQUAL_P99_S = 4.5
"""Savings are read where each system has this P99 prefill."""
SYSTEMS = ("infaas++", "llumnix", "llumnix_ledger", "llumdeck")
COST_THRESHOLDS: dict[str, tuple[tuple[int, ...], int]] = {
    "infaas++": ((5, 25, 45, 65, 85, 105, 125, 145), 50),
    "llumnix": ((5, 25, 45, 65, 85), 50),
    "llumnix_ledger": ((5, 15, 25, 45, 65), 50),
    "llumdeck": ((5, 8, 10, 15, 25), 25),
}
"""Figure 15: thresholds t in blocks per request and the width of the range [t, t + width]."""

READINGS: dict[str, Reading] = {
    "instances": lambda run: run.instances_mean,
    "prefill_p99_s": lambda run: run.service.all.prefill_s.p99,
    "prefill_mean_s": lambda run: run.service.all.prefill_s.mean,
    "request_mean_s": lambda run: run.service.all.request_s.mean,
}


def _job(system: str, workload: WorkloadSpec, seed: int, key: Key, **scaling: float) -> Job:
    part = {"enabled": True, "min_instances": 1, "max_instances": MOST_INSTANCES, **scaling}
    policy = policy_for(system, MIX, scaling=part)
    return Job(system, workload, policy, FIRST_INSTANCES, seed=seed, key=(*key, str(seed), system))


def scaling_jobs(paper: Mapping[str, Any], options: Options) -> list[Job]:
    """Figure 14: Poisson at six rates, Gamma at one rate in five degrees of burstiness."""
    return [
        _job(system, workload, seed, (FIGURE_SCALING, *cell))
        for cell, workload in _scaling_workloads(paper, options)
        for seed in options.seeds
        for system in SYSTEMS
    ]


def _scaling_workloads(paper: Mapping[str, Any], options: Options) -> Iterable[tuple[Key, WorkloadSpec]]:
    curves = paper["figure_14_autoscaling"]
    step = 3 if options.quick else 1
    for rate in curves["poisson"]["rates_per_s"][::step]:
        yield ("poisson", f"{rate:g}"), WorkloadSpec(MIX, rate, options.requests)
    for cv in curves["gamma_rate_2"]["cv"][::step]:
        yield ("gamma_rate_2", f"{cv:g}"), WorkloadSpec(MIX, 2.0, options.requests, cv=float(cv))


def scaling_cells(paper: Mapping[str, Any], results: Results) -> list[dict[str, Any]]:
    """One row per arrival process and rate or coefficient of variation."""
    return [_scaling_cell(paper["figure_14_autoscaling"], cell, results) for cell in results.cells("14")]


def _scaling_cell(curves: Mapping[str, Any], cell: Key, results: Results) -> dict[str, Any]:
    process, at = cell
    axis = "rates_per_s" if process == "poisson" else "cv"
    index = curves[process][axis].index(float(at))
    return {
        "arrivals": process,
        axis: float(at),
        "paper": {
            name: {system: values[index] for system, values in curves[process][name].items()}
            for name in READINGS
        },
        "ours": {
            system: known(
                {name: results.mean(FIGURE_SCALING, cell, system, read) for name, read in READINGS.items()}
            )
            for system in SYSTEMS
            if results.seeds(FIGURE_SCALING, cell, system)
        },
    }


def scaling_summary(results: Results) -> dict[str, float]:
    """What each system saves at the paper's own thresholds, and what its P99 prefill is beside INFaaS++."""
    figures: dict[str, float | None] = {}
    for system in SYSTEMS[1:]:
        ratio = results.overall(FIGURE_SCALING, system, "infaas++", READINGS["instances"])
        figures[f"autoscaling_{system}_saving"] = None if ratio is None else 1.0 - ratio
        figures[f"autoscaling_{system}_vs_infaas_p99_prefill"] = results.overall(
            FIGURE_SCALING, "infaas++", system, READINGS["prefill_p99_s"]
        )
    return known(figures)


def cost_jobs(paper: Mapping[str, Any], options: Options) -> list[Job]:
    """Figure 15: Gamma CV 2 at 2 requests a second, over a range of thresholds."""
    workload = WorkloadSpec(MIX, 2.0, options.requests, cv=2.0)
    return [
        _job(
            system,
            workload,
            seed,
            (FIGURE_COST, str(threshold)),
            low_freeness_tokens=float(threshold * BLOCK_TOKENS),
            high_freeness_tokens=float((threshold + width) * BLOCK_TOKENS),
        )
        for system, (thresholds, width) in COST_THRESHOLDS.items()
        for threshold in (thresholds[1::2] if options.quick else thresholds)
        for seed in options.seeds
    ]


def cost_points(results: Results, system: str) -> list[tuple[float, float]]:
    """(instances, P99 prefill) of each threshold: the mean and the geometric mean over seeds."""
    points = []
    for threshold in COST_THRESHOLDS[system][0]:
        cell = (str(threshold),)
        instances = results.mean(FIGURE_COST, cell, system, READINGS["instances"])
        p99 = results.values(FIGURE_COST, cell, system, READINGS["prefill_p99_s"])
        if instances is not None:
            points.append((instances, geometric_mean(p99)))
    return points


def instances_at(points: Sequence[tuple[float, float]], p99_s: float) -> float | None:
    """Instances at which a cost curve has this P99, between points in log P99.

    A dearer point that is worse than a cheaper one is left out. ``None`` when the curve
    stays above; its cheapest point when it stays below (which understates the saving).
    """
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    if not front or front[-1][1] > p99_s:
        return None
    before = None
    for instances, p99 in front:
        if p99 <= p99_s:
            if before is None:
                return instances
            share = (log(before[1]) - log(p99_s)) / (log(before[1]) - log(p99))
            return before[0] + share * (instances - before[0])
        before = (instances, p99)
    return None


def cost_cells(paper: Mapping[str, Any], results: Results) -> list[dict[str, Any]]:
    """One row per system: its points, the paper's, and the instances at equal P99."""
    return [
        {
            "system": system,
            "thresholds_blocks": list(COST_THRESHOLDS[system][0]),
            "points": [list(point) for point in cost_points(results, system)],
            "paper_points": paper["figure_15_cost"].get(system, []),
            f"instances_at_p99_{EQUAL_P99_S}_s": instances_at(cost_points(results, system), EQUAL_P99_S),
            f"paper_instances_at_p99_{EQUAL_P99_S}_s": instances_at(
                [tuple(point) for point in paper["figure_15_cost"].get(system, [])], EQUAL_P99_S
            ),
        }
        for system in COST_THRESHOLDS
    ]


def cost_summary(results: Results) -> dict[str, float]:
    """Share of instances saved at equal P99 prefill."""
    at = {system: instances_at(cost_points(results, system), EQUAL_P99_S) for system in COST_THRESHOLDS}

    def saving(system: str, against: str) -> float | None:
        ours, theirs = at[system], at[against]
        return None if ours is None or theirs is None else 1.0 - ours / theirs

    return known(
        {
            "llumnix_saving_at_equal_p99": saving("llumnix", "infaas++"),
            "llumnix_ledger_saving_vs_infaas": saving("llumnix_ledger", "infaas++"),
            "llumdeck_saving_vs_infaas": saving("llumdeck", "infaas++"),
            "llumdeck_saving_vs_llumnix": saving("llumdeck", "llumnix"),
        }
    )
