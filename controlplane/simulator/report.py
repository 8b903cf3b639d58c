"""Readable tables of runs, comparisons, fits, traces and the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from controlplane.simulator.fitting import Fit
from controlplane.simulator.metrics import Distribution, GroupMetrics, RunMetrics, geometric_mean
from controlplane.simulator.readings import FLEET, SERVING

WIDTH_OF_FILES = 200
"""Columns when the output is not a terminal."""


def console(file: TextIO | None = None) -> Console:
    """Where tables go. A file or pipe gets plain text that is wide enough for every table."""
    out = Console(file=file, highlight=False)
    return out if out.is_terminal else Console(file=file, highlight=False, width=WIDTH_OF_FILES)


def number(value: float | None) -> str:
    """Four significant digits without exponent; nothing for what is not known."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 3 - _magnitude(value))
    text = f"{value:.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _magnitude(value: float) -> int:
    exponent = 0
    value = abs(value)
    while value >= 10:
        value /= 10
        exponent += 1
    while value < 1 and exponent > -6:
        value *= 10
        exponent -= 1
    return exponent


def run_tables(title: str, run: RunMetrics) -> list[Table]:
    """One run: a row per class and kind of time, then what the fleet did."""
    times = Table(title=title, title_justify="left")
    for name in ("class", "requests", "", "mean", "P50", "P90", "P99", "P99.9", "max"):
        times.add_column(name, justify="left" if name in ("class", "") else "right")
    groups = {"all": run.service.all, **(run.service.classes if len(run.service.classes) > 1 else {})}
    for name, group in groups.items():
        _add_group(times, name, group)
    fleet = Table(title="fleet", title_justify="left", show_header=False)
    for label, read in FLEET.items():
        fleet.add_row(label.replace("_", " "), number(read(run)))
    fleet.add_row("preemption loss mean s", number(run.service.all.preemption_loss_mean_s))
    fleet.add_row("P99 prefill of the 5 % longest prompts s", number(run.service.long_prompt_prefill_p99_s))
    fleet.add_row("longest wait s", number(run.service.longest_wait_s))
    fleet.add_row("simulated requests per CPU second", number(requests_per_cpu_s([run])))
    fleet.add_row("SHA-256 of the events", run.events_sha256)
    return [times, fleet]


def _add_group(table: Table, name: str, group: GroupMetrics) -> None:
    rows: tuple[tuple[str, Distribution, float], ...] = (
        ("request s", group.request_s, 1.0),
        ("prefill s", group.prefill_s, 1.0),
        ("decode ms/token", group.decode_s, 1000.0),
    )
    for label, times, scale in rows:
        cells = (times.mean, times.p50, times.p90, times.p99, times.p999, times.max)
        table.add_row(name, str(group.requests), label, *(number(scale * cell) for cell in cells))
        name = ""


def requests_per_cpu_s(runs: Sequence[RunMetrics]) -> float | None:
    """Simulated requests per second of CPU; ``None`` for bounds."""
    cpu_s = sum(run.cpu_s for run in runs)
    return sum(run.service.all.requests for run in runs) / cpu_s if cpu_s > 0 else None


def compare_table(title: str, systems: Mapping[str, Sequence[RunMetrics]]) -> Table:
    """Systems as columns; the first is what the others are set against (× = how many times better)."""
    table = Table(title=title, title_justify="left")
    table.add_column("mean over seeds")
    for system in systems:
        table.add_column(system, justify="right")
    baseline = next(iter(systems.values()))
    for label, read in SERVING.items():
        cells = []
        for runs in systems.values():
            mean = sum(map(read, runs)) / len(runs)
            ratios = [
                read(b) / read(r) for b, r in zip(baseline, runs, strict=False) if read(b) > 0 and read(r) > 0
            ]
            times = f"  {geometric_mean(ratios):6.2f}×" if runs is not baseline and ratios else ""
            cells.append(number(mean) + times)
        table.add_row(label.replace("_", " "), *cells)
    table.add_section()
    for label, read in FLEET.items():
        shown = [
            "-"
            if runs[0].cpu_s == 0 and label not in _OF_BOUNDS
            else number(sum(map(read, runs)) / len(runs))
            for runs in systems.values()
        ]
        table.add_row(label.replace("_", " "), *shown)
    speeds = [number(requests_per_cpu_s(runs)) for runs in systems.values()]
    table.add_row("simulated requests per CPU second", *speeds)
    return table


_OF_BOUNDS = ("preemptions", "slo_attained_percent", "goodput_per_s")


def fit_table(fit: Fit) -> Table:
    """Coefficients found, and how far they are from the steps that were kept out."""
    table = Table(title=f"latency model {fit.coefficients['name']}", title_justify="left", show_header=False)
    for key, value in fit.coefficients.items():
        if isinstance(value, float):
            table.add_row(key, f"{value:.6g}")
    table.add_row(
        "decode steps", f"{fit.decode_rows} (mean error {100 * fit.decode_error:.1f} % on those kept out)"
    )
    table.add_row(
        "prefill steps", f"{fit.prefill_rows} (mean error {100 * fit.prefill_error:.1f} % on those kept out)"
    )
    return table


def trace_table(title: str, statistics: Mapping[str, Any]) -> Table:
    """Statistics of a trace (``trace_info.statistics``)."""
    table = Table(title=title, title_justify="left", show_header=False)
    for label, value in statistics.items():
        if isinstance(value, Mapping):
            shown = ", ".join(f"{name} {number(part)}" for name, part in value.items())
        else:
            shown = number(value) if isinstance(value, float) else str(value)
        table.add_row(label.replace("_", " "), shown)
    return table
