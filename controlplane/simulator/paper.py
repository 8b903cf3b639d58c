"""The Llumnix evaluation (OSDI'24, 6.3 to 6.5) beside its own numbers, cell by cell.

One module per figure says which runs it needs and what it reads out of them:
``paper_serving`` (Figure 11), ``paper_priorities`` (13), ``paper_scaling`` (14 and 15).
The paper's curves are in ``paper_data.json``. All systems have the same message delays,
10 ms for a report and 10 ms for a dispatch.

Seed 0 has the paper's own lengths and is the one to tune on; :data:`FIRST_SEED` starts
the seeds that results are quoted from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from controlplane.simulator import paper_priorities, paper_scaling, paper_serving
from controlplane.simulator.grid import Job, run_jobs
from controlplane.simulator.paper_grid import Options, Results

DATA_FILE = Path(__file__).with_name("paper_data.json")
FIRST_SEED = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """What a figure needs and gives."""

    number: str
    title: str
    jobs: Callable[[Mapping[str, Any], Options], list[Job]]
    cells: Callable[[Mapping[str, Any], Results], list[dict[str, Any]]]
    """Rows of plain data: the paper's numbers and ours."""
    summary: Callable[[Results], dict[str, float]]


FIGURES: dict[str, Figure] = {
    figure.number: figure
    for figure in (
        Figure("11", "Serving: seven traces", paper_serving.jobs, paper_serving.cells, paper_serving.summary),
        Figure("13", "Priorities", paper_priorities.jobs, paper_priorities.cells, paper_priorities.summary),
        Figure(
            "14",
            "Auto-scaling",
            paper_scaling.scaling_jobs,
            paper_scaling.scaling_cells,
            paper_scaling.scaling_summary,
        ),
        Figure(
            "15",
            "Cost at equal quality",
            paper_scaling.cost_jobs,
            paper_scaling.cost_cells,
            paper_scaling.cost_summary,
        ),
    )
}


@cache
def paper_data() -> dict[str, Any]:
    """The paper's curves."""
    data: dict[str, Any] = json.loads(DATA_FILE.read_text())
    return data


def chosen_figures(name: str) -> list[Figure]:
    """One figure by its number, or ``all``. Raises :class:`KeyError` with the known ones."""
    if name == "all":
        return list(FIGURES.values())
    if name not in FIGURES:
        raise KeyError(f"no figure {name!r}; there are {', '.join(FIGURES)} and all")
    return [FIGURES[name]]


def all_jobs(figures: Iterable[Figure], options: Options) -> list[Job]:
    """The runs of some figures, seed by seed: what is done when stopped then covers whole figures."""
    jobs = [job for figure in figures for job in figure.jobs(paper_data(), options)]
    return sorted(jobs, key=lambda job: options.seeds.index(job.seed))


def run(
    figures: Sequence[Figure],
    options: Options,
    processes: int = 1,
    on_done: Callable[[Job], None] = lambda job: None,
) -> dict[str, Any]:
    """Run the figures; plain data with ``figures`` (cells) and ``summary``.

    Ctrl-C keeps the runs that are done; ``complete`` is then false and what needs
    missing runs is left out.
    """
    jobs = all_jobs(figures, options)
    outcome = run_jobs(jobs, processes, on_done)
    results = Results({job.key: metrics for job, metrics in outcome.done})
    summary: dict[str, float] = {}
    for figure in figures:
        summary.update(figure.summary(results))
    return {
        "complete": not outcome.stopped,
        "runs": len(outcome.done),
        "seeds": list(options.seeds),
        "requests_per_run": options.requests,
        "cpu_s": sum(metrics.cpu_s for _, metrics in outcome.done),
        "figures": {f.number: {"title": f.title, "cells": f.cells(paper_data(), results)} for f in figures},
        "summary": summary,
    }
