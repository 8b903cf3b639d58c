"""The simulator's commands. Errors of the user's making are one line and exit status 2."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from controlplane.scheduling.config import POLICY_NAMES, ConfigError
from controlplane.simulator import fitting, latency, paper, paper_report, report, trace_info
from controlplane.simulator.cli_arguments import (
    add_fleet,
    add_workload,
    count,
    job_of,
    output_file,
    seed,
)
from controlplane.simulator.fitting import FitError
from controlplane.simulator.grid import GridError, Job, bound_jobs, run_fully, run_jobs
from controlplane.simulator.importers import TraceError, read_trace
from controlplane.simulator.latency import LatencyModelError
from controlplane.simulator.metrics import RunMetrics, geometric_mean, measure_run
from controlplane.simulator.paper_grid import Options
from controlplane.simulator.plots import PlotError, plot_paper, plot_run
from controlplane.simulator.readings import SERVING
from controlplane.simulator.result import RequestRecord, SimulationError
from controlplane.simulator.workloads import WorkloadError

USER_ERRORS = (
    ConfigError,
    FitError,
    GridError,
    LatencyModelError,
    PlotError,
    SimulationError,
    TraceError,
    WorkloadError,
)
QUICK_REQUESTS = 3_000
STOPPED = 130
"""Exit status after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        return int(parsed.command(parsed))
    except USER_ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m controlplane.simulator",
        description="Simulate a fleet of engines under a scheduling policy, in virtual time.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="one policy on one workload"))
    _add_compare(commands.add_parser("compare", help="several policies on one workload, with bounds"))
    _add_paper(commands.add_parser("paper", help="the Llumnix evaluation beside its own numbers"))
    _add_fit(commands.add_parser("fit", help="a latency model from recorded steps of live engines"))
    _add_trace_info(commands.add_parser("trace-info", help="what is in a trace"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy", choices=POLICY_NAMES, default="llumnix")
    add_workload(parser)
    add_fleet(parser)
    parser.add_argument("--json", type=output_file, metavar="FILE", help="all metrics")
    parser.add_argument("--records", type=output_file, metavar="FILE", help="every request, as CSV")
    parser.add_argument("--plot", type=output_file, metavar="FILE", help="the run over time (png or svg)")
    parser.set_defaults(command=run)


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policies", required=True, metavar="A,B,C", help=", ".join(POLICY_NAMES))
    add_workload(parser)
    add_fleet(parser)
    parser.add_argument("--seeds", type=count, default=1, help="how many, from --seed on")
    parser.add_argument("--no-bounds", action="store_true", help="leave out empty cluster and pooled memory")
    _add_many(parser)
    parser.set_defaults(command=compare)


def _add_paper(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--figure", choices=(*paper.FIGURES, "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="some of the cells, one seed, short runs")
    parser.add_argument("--seeds", type=count, help="how many (default 3; quick 1)")
    parser.add_argument("--first-seed", type=seed, default=paper.FIRST_SEED)
    parser.add_argument("--requests", type=count, help="per run (default 10000, as the paper)")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the figures there")
    parser.add_argument("--plot-format", choices=("png", "svg"), default="svg")
    _add_many(parser)
    parser.set_defaults(command=run_paper)


def _add_many(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--processes", type=count, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=output_file, metavar="FILE", help="all numbers")


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("steps", type=Path, help=f"CSV with {', '.join(fitting.COLUMNS)}")
    parser.add_argument("--out", type=output_file, required=True, metavar="FILE", help="coefficient file")
    parser.add_argument("--name", help="of the model (default: the name of the file)")
    parser.add_argument("--capacity-blocks", type=count, required=True)
    parser.add_argument("--block-size-tokens", type=count, default=16)
    parser.add_argument("--max-batch-requests", type=count, default=256)
    parser.add_argument("--chunk-budget-tokens", type=count, default=2048)
    parser.set_defaults(command=fit)


def _add_trace_info(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trace", type=Path)
    parser.add_argument("--json", type=output_file, metavar="FILE")
    parser.set_defaults(command=trace)


def run(arguments: argparse.Namespace) -> int:
    """``run``: one table of one simulation."""
    job = job_of(arguments, arguments.policy)
    workload = job.workload.build(job.seed)
    result = run_fully(job)
    metrics = measure_run(result, dict(job.slos))
    out = report.console()
    title = f"{job.system} on {workload.name}, {job.instances} instances, seed {job.seed}"
    for table in report.run_tables(title, metrics):
        out.print(table)
    if arguments.json:
        write_json(arguments.json, {**_described(job), "metrics": metrics.to_dict()})
    if arguments.records:
        _write_records(arguments.records, result.records)
    if arguments.plot:
        plot_run(result, title, arguments.plot)
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """``compare``: one table, a column per policy and bound."""
    policies = [name.strip() for name in arguments.policies.split(",") if name.strip()]
    first = [job_of(arguments, policy) for policy in dict.fromkeys(policies)]
    if not first:
        raise ConfigError("policies", f"name at least one of {', '.join(POLICY_NAMES)}")
    if not arguments.no_bounds:
        first += bound_jobs(first[0])
    jobs = [replace(job, seed=job.seed + n) for job in first for n in range(arguments.seeds)]
    with progress(len(jobs)) as on_done:
        outcome = run_jobs(jobs, arguments.processes, on_done)
    systems: dict[str, list[RunMetrics]] = {}
    for job, metrics in outcome.done:
        systems.setdefault(job.system, []).append(metrics)
    if systems:
        seeds = f"seeds {arguments.seed} to {arguments.seed + arguments.seeds - 1}"
        title = f"{arguments.workload}, {arguments.instances} instances, {seeds}"
        report.console().print(report.compare_table(title, systems))
        if arguments.json:
            write_json(arguments.json, {**_described(first[0]), **_compared(systems)})
    return _status(outcome.stopped, len(outcome.done), len(jobs))


def _compared(systems: Mapping[str, Sequence[RunMetrics]]) -> dict[str, Any]:
    """Every run, and how many times better than the first system each is (geometric mean over seeds)."""
    baseline = next(iter(systems.values()))
    better: dict[str, dict[str, float]] = {}
    for system, runs in systems.items():
        for label, read in SERVING.items():
            pairs = [(read(b), read(r)) for b, r in zip(baseline, runs, strict=False)]
            ratios = [b / r for b, r in pairs if b > 0 and r > 0]
            if ratios:
                better.setdefault(system, {})[label] = geometric_mean(ratios)
    return {
        "systems": {system: [metrics.to_dict() for metrics in runs] for system, runs in systems.items()},
        "times_better_than_the_first": better,
    }


def run_paper(arguments: argparse.Namespace) -> int:
    """``paper``: tables cell by cell, and the summary."""
    seeds = arguments.seeds or (1 if arguments.quick else 3)
    options = Options(
        seeds=tuple(range(arguments.first_seed, arguments.first_seed + seeds)),
        requests=arguments.requests or (QUICK_REQUESTS if arguments.quick else 10_000),
        quick=arguments.quick,
    )
    figures = paper.chosen_figures(arguments.figure)
    total = len(paper.all_jobs(figures, options))
    with progress(total) as on_done:
        found = paper.run(figures, options, arguments.processes, on_done)
    out = report.console()
    for table in paper_report.tables(found):
        out.print(table)
    if arguments.json:
        write_json(arguments.json, {**_provenance(latency.DEFAULT_MODEL), **found})
    if arguments.plots:
        plot_paper(found, arguments.plots, arguments.plot_format)
    return _status(not found["complete"], found["runs"], total)


def fit(arguments: argparse.Namespace) -> int:
    """``fit``: a coefficient file from recorded steps."""
    found = fitting.fit(
        fitting.read_steps(arguments.steps),
        arguments.name or arguments.out.stem,
        f"Fitted to the steps of live engines recorded in {arguments.steps.name}.",
        capacity_blocks=arguments.capacity_blocks,
        block_size_tokens=arguments.block_size_tokens,
        max_batch_requests=arguments.max_batch_requests,
        chunk_budget_tokens=arguments.chunk_budget_tokens,
    )
    write_json(arguments.out, found.coefficients)
    report.console().print(report.fit_table(found))
    return 0


def trace(arguments: argparse.Namespace) -> int:
    """``trace-info``: what is in a trace."""
    imported = read_trace(arguments.trace)
    statistics = {
        "format": imported.format_name,
        "failed_rows_left_out": imported.failed_rows,
        **trace_info.statistics(imported.workload),
    }
    report.console().print(report.trace_table(str(arguments.trace), statistics))
    if arguments.json:
        write_json(arguments.json, statistics)
    return 0


def _status(stopped: bool, done: int, total: int) -> int:
    if stopped:
        print(f"stopped: {done} of {total} runs were done and are shown", file=sys.stderr)
    return STOPPED if stopped else 0


@contextmanager
def progress(total: int) -> Iterator[Callable[[Job], None]]:
    """A bar on the terminal, or a line for every tenth where there is none."""
    err = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as bar:
        task = bar.add_task("simulating", total=total)
        done = 0

        def on_done(job: Job) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, description=f"{job.workload.mix or job.workload.trace} {job.system}")
            if not err.is_terminal and done * 10 // total > (done - 1) * 10 // total:
                print(f"{done} of {total} runs done", file=sys.stderr)

        yield on_done


def write_json(path: Path, content: object) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def _described(job: Job) -> dict[str, Any]:
    """The job as plain data, and what else a number depends on."""
    described = {
        "workload": asdict(job.workload),
        "policy": job.policy.to_dict(),
        "instances": job.instances,
        "seed": job.seed,
        "mode": job.mode,
        "report_delay_s": job.report_delay_s,
        "dispatch_delay_s": job.dispatch_delay_s,
        "boot_s": job.boot_s,
        "relative_speeds": list(job.relative_speeds),
    }
    if job.workload.trace:
        described["trace_sha256"] = hashlib.sha256(Path(job.workload.trace).read_bytes()).hexdigest()
    return {**_provenance(job.latency), **described}


def _provenance(model: str) -> dict[str, Any]:
    coefficients = json.dumps(asdict(latency.load(model)), sort_keys=True)
    return {
        "latency": model,
        "coefficients_sha256": hashlib.sha256(coefficients.encode()).hexdigest(),
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }


def _write_records(path: Path, records: Sequence[RequestRecord]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        names = [name for name in RequestRecord.__dataclass_fields__ if name != "instances"]
        writer.writerow([*names, "instances"])
        for record in records:
            row = [getattr(record, name) for name in names]
            writer.writerow([*row, " ".join(map(str, record.instances))])
