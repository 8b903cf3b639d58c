"""The paper's figures and a run over time, drawn with matplotlib where it is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controlplane.simulator.result import SimulationResult

SYSTEMS: dict[str, tuple[str, str]] = {
    "round_robin": ("#9aa0a6", "v"),
    "infaas++": ("#d95f02", "o"),
    "llumnix_base": ("#7570b3", "s"),
    "llumnix": ("#1b9e77", "s"),
    "llumnix_ledger": ("#66a61e", "D"),
    "llumdeck base": ("#8888cc", "^"),
    "llumdeck": ("#1f4fd8", "^"),
    "empty cluster": ("#444444", ""),
    "pooled memory": ("#888888", ""),
}
SERVING_ROWS = (
    ("request_p99_s", "request P99 s"),
    ("request_mean_s", "request mean s"),
    ("prefill_p99_s", "prefill P99 s"),
    ("prefill_mean_s", "prefill mean s"),
    ("decode_p99_s", "decode P99 s"),
    ("decode_mean_s", "decode mean s"),
    ("preemption_loss_s", "preemption loss s"),
)


class PlotError(RuntimeError):
    """matplotlib is missing, or the picture cannot be written."""


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise PlotError(
            "plots need matplotlib, which is not installed: python -m pip install matplotlib"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, path: Path) -> None:
    try:
        figure.savefig(path, bbox_inches="tight", dpi=110)
    except (OSError, ValueError) as error:
        raise PlotError(f"{path}: cannot be written: {error}") from error
    finally:
        _pyplot().close(figure)


def plot_run(result: SimulationResult, title: str, path: Path) -> None:
    """Instances, memory, fragmentation and queue over time, and the distributions of waiting."""
    pyplot = _pyplot()
    figure, ((memory, queue), (fleet, tail)) = pyplot.subplots(2, 2, figsize=(11, 6))
    at = [sample.at_s for sample in result.samples]
    memory.plot(at, [100 * s.used_share for s in result.samples], label="used", color="#1f4fd8")
    memory.plot(at, [100 * s.fragmentation for s in result.samples], label="fragmented", color="#d95f02")
    memory.set(ylabel="% of memory", xlabel="s")
    memory.legend()
    queue.plot(at, [s.running for s in result.samples], label="running", color="#1f4fd8")
    queue.plot(at, [s.waiting for s in result.samples], label="waiting", color="#d95f02")
    queue.set(ylabel="requests", xlabel="s")
    queue.legend()
    fleet.step(at, [s.instances for s in result.samples], where="post", color="#1b9e77")
    fleet.set(ylabel="instances", xlabel="s", ylim=(0, None))
    served = [record for record in result.records if record.finished_s >= 0]
    waits = sorted(record.first_token_s - record.arrival_s for record in served)
    tail.plot(waits, [1 - n / len(waits) for n in range(len(waits))], color="#1f4fd8")
    tail.set(xscale="log", yscale="log", xlabel="prefill s", ylabel="share that waited longer")
    figure.suptitle(title)
    figure.tight_layout()
    _save(figure, path)


def plot_paper(report: Mapping[str, Any], folder: Path, form: str) -> list[Path]:
    """One picture per figure of ``paper.run``'s report; the paper's curves dashed, ours solid."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for number, content in report["figures"].items():
        if content["cells"]:
            path = folder / f"figure_{number}.{form}"
            _save(_DRAW[number](content["cells"]), path)
            drawn.append(path)
    return drawn


def _curve(axis: Any, system: str, x: Sequence[float], y: Sequence[float | None], paper: bool) -> None:
    points = [(a, b) for a, b in zip(x, y, strict=True) if b is not None]
    if not points:
        return
    colour, marker = SYSTEMS.get(system, ("#000000", "."))
    axis.plot(
        [a for a, _ in points],
        [b for _, b in points],
        color=colour,
        marker=marker,
        markersize=3.5,
        linestyle="--" if paper else "-",
        alpha=0.45 if paper else 1.0,
        label=f"{system} (paper)" if paper else system,
    )


def _panel(axis: Any, cells: Sequence[Mapping[str, Any]], x: Sequence[float], name: str) -> None:
    """One measurement of all systems over ``x``."""
    for system in SYSTEMS:
        paper = [cell["paper"].get(name, {}).get(system) for cell in cells]
        ours = [cell["ours"].get(system, {}).get(name) for cell in cells]
        _curve(axis, system, x, paper, paper=True)
        _curve(axis, system, x, ours, paper=False)


def _legend(figure: Any, axes: Any) -> None:
    shown: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, handle)
    figure.legend(shown.values(), shown.keys(), loc="upper center", ncol=6, bbox_to_anchor=(0.5, 0.0))
    figure.tight_layout()


def _draw_serving(cells: Sequence[Mapping[str, Any]]) -> Any:
    traces = list(dict.fromkeys(cell["trace"] for cell in cells))
    figure, axes = _pyplot().subplots(
        len(SERVING_ROWS), len(traces), figsize=(3 * len(traces), 13), squeeze=False
    )
    for column, trace in enumerate(traces):
        mine = [cell for cell in cells if cell["trace"] == trace]
        rates = [cell["rate_per_s"] for cell in mine]
        for row, (name, label) in enumerate(SERVING_ROWS):
            axis = axes[row][column]
            _panel(axis, mine, rates, name)
            axis.set_yscale("symlog", linthresh=1e-3) if "loss" in name else axis.set_yscale("log")
            axis.set(title=trace if row == 0 else None, ylabel=label if column == 0 else None)
            axis.set_xlabel("requests per second" if row == len(SERVING_ROWS) - 1 else "")
    _legend(figure, axes.flat)
    return figure


def _words(name: str) -> str:
    """``prefill_p99_s`` -> ``prefill p99 s``."""
    return name.replace("_", " ")


def _draw_priorities(cells: Sequence[Mapping[str, Any]]) -> Any:
    figure, axes = _pyplot().subplots(2, 4, figsize=(14, 6))
    names = ("request_mean_s", "prefill_mean_s", "prefill_p99_s", "decode_mean_s")
    for row, group in enumerate(("high", "normal")):
        mine = [cell for cell in cells if cell["class"] == group]
        for column, name in enumerate(names):
            _panel(axes[row][column], mine, [cell["cv"] for cell in mine], name)
            axes[row][column].set(
                title=f"{group}: {name.removesuffix('_s').replace('_', ' ')} s", xlabel="CV"
            )
    _legend(figure, axes.flat)
    return figure


def _draw_scaling(cells: Sequence[Mapping[str, Any]]) -> Any:
    figure, axes = _pyplot().subplots(2, 4, figsize=(14, 6))
    names = ("instances", "prefill_p99_s", "prefill_mean_s", "request_mean_s")
    for row, (process, axis_name) in enumerate((("poisson", "rates_per_s"), ("gamma_rate_2", "cv"))):
        mine = [cell for cell in cells if cell["arrivals"] == process]
        for column, name in enumerate(names):
            axis = axes[row][column]
            _panel(axis, mine, [cell[axis_name] for cell in mine], name)
            axis.set(
                title=name.removesuffix("_s").replace("_", " "), xlabel=axis_name.replace("_per_s", "/s")
            )
            axis.set_yscale("log" if "prefill" in name else "linear")
    _legend(figure, axes.flat)
    return figure


def _draw_cost(cells: Sequence[Mapping[str, Any]]) -> Any:
    figure, axis = _pyplot().subplots(figsize=(7, 5))
    for cell in cells:
        for key, paper in (("paper_points", True), ("points", False)):
            points = sorted(cell[key])
            _curve(axis, cell["system"], [p[0] for p in points], [p[1] for p in points], paper)
    axis.set(xlabel="instances (mean over time)", ylabel="prefill P99 s", yscale="log")
    axis.legend()
    return figure


_DRAW = {"11": _draw_serving, "13": _draw_priorities, "14": _draw_scaling, "15": _draw_cost}
