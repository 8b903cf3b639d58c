"""Figure 11: seven traces at five rates each, INFaaS++ against Llumnix, and what comes after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.simulator.grid import EMPTY_CLUSTER, POOLED_MEMORY, Job, WorkloadSpec, bound_jobs
from controlplane.simulator.metrics import RunMetrics
from controlplane.simulator.paper_grid import Options, Results, known, policy_for
from controlplane.simulator.readings import SERVING, Reading

FIGURE = "11"
SYSTEMS = ("infaas++", "llumnix", "llumnix_ledger", "llumdeck")
BASELINE = "round_robin"
"""The paper shows it for two traces only."""
QUICK_RATES = (1, 3)

READINGS: dict[str, Reading] = {**SERVING, "fragmentation": lambda run: run.fragmentation_mean}
RATIOS = ("prefill_p99_s", "prefill_mean_s", "request_p99_s", "decode_p99_s")


def jobs(paper: Mapping[str, Any], options: Options) -> list[Job]:
    """All systems on all cells and seeds; the bounds on the first seed."""
    return [
        job
        for mix, curves in paper["figure_11_serving"].items()
        for index, rate in enumerate(curves["rates_per_s"])
        if not options.quick or index in QUICK_RATES
        for seed in options.seeds
        for job in _cell_jobs(mix, rate, seed, options, BASELINE in curves["request_p99_s"])
    ]


def _cell_jobs(mix: str, rate: float, seed: int, options: Options, baseline: bool) -> list[Job]:
    workload = WorkloadSpec(mix, rate, options.requests)
    systems = (*SYSTEMS, BASELINE) if baseline else SYSTEMS
    cell = [
        Job(
            system,
            workload,
            policy_for(system, mix),
            seed=seed,
            key=(FIGURE, mix, f"{rate:g}", str(seed), system),
        )
        for system in systems
    ]
    return cell + bound_jobs(cell[0]) if seed == options.seeds[0] else cell


def cells(paper: Mapping[str, Any], results: Results) -> list[dict[str, Any]]:
    """One row per trace and rate."""
    return [_cell(paper["figure_11_serving"][mix], mix, rate, results) for mix, rate in results.cells(FIGURE)]


def _cell(curves: Mapping[str, Any], mix: str, rate: str, results: Results) -> dict[str, Any]:
    index = curves["rates_per_s"].index(float(rate))
    systems = (*SYSTEMS, BASELINE, EMPTY_CLUSTER, POOLED_MEMORY)
    theirs = {
        name: {system: values[index] for system, values in curve.items()}
        for name, curve in curves.items()
        if name != "rates_per_s"
    }
    return {
        "trace": mix,
        "rate_per_s": float(rate),
        "paper": theirs,
        "paper_infaas_over_llumnix": {
            name: theirs[name]["infaas++"] / theirs[name]["llumnix"] for name in RATIOS
        },
        "ours": {
            system: known(
                {name: results.mean(FIGURE, (mix, rate), system, read) for name, read in READINGS.items()}
            )
            for system in systems
            if results.seeds(FIGURE, (mix, rate), system)
        },
        "infaas_over": {
            system: known(
                {
                    name: results.ratio(FIGURE, (mix, rate), "infaas++", system, READINGS[name])
                    for name in (*RATIOS, "long_prompt_prefill_p99_s", "longest_wait_s")
                }
            )
            for system in SYSTEMS[1:]
        },
    }


def summary(results: Results) -> dict[str, float]:
    """Geometric means over all cells and seeds; loss is total against total."""

    def over(above: str, below: str, name: str) -> float | None:
        return results.overall(FIGURE, above, below, READINGS[name])

    figures: dict[str, float | None] = {}
    for below, above, label in (
        ("llumnix", "infaas++", "llumnix_vs_infaas"),
        ("llumnix_ledger", "infaas++", "llumnix_ledger_vs_infaas"),
        ("llumdeck", "infaas++", "llumdeck_vs_infaas"),
        ("llumdeck", "llumnix", "llumdeck_vs_llumnix"),
        ("llumdeck", "llumnix_ledger", "llumdeck_vs_llumnix_ledger"),
    ):
        for name, ending in _ENDINGS.items():
            figures[f"{label}_{ending}"] = over(above, below, name)
    for system in SYSTEMS[1:]:
        figures[f"{system}_loss_left_vs_infaas"] = _loss_left(results, system)
    return known(figures)


_ENDINGS = {
    "prefill_p99_s": "p99_prefill",
    "prefill_mean_s": "mean_prefill",
    "decode_p99_s": "p99_decode",
    "decode_mean_s": "mean_decode",
    "request_p99_s": "p99_request",
    "request_mean_s": "mean_request",
    "long_prompt_prefill_p99_s": "long_prompt_p99",
    "longest_wait_s": "longest_wait",
}


def _loss_left(results: Results, system: str) -> float | None:
    ours = theirs = 0.0
    for cell in results.cells(FIGURE):
        for seed in results.seeds(FIGURE, cell, system, "infaas++"):
            ours += _loss(results.by_key[(FIGURE, *cell, seed, system)])
            theirs += _loss(results.by_key[(FIGURE, *cell, seed, "infaas++")])
    return ours / theirs if theirs > 0 else None


def _loss(run: RunMetrics) -> float:
    return run.service.all.preemption_loss_mean_s
