"""The paper's figures as tables: its number and ours in every cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table

from controlplane.simulator.report import number

Cells = Sequence[Mapping[str, Any]]


def tables(report: Mapping[str, Any]) -> list[Table]:
    """All tables of ``paper.run``'s report, the summary last."""
    shown = [
        table
        for figure, content in report["figures"].items()
        if content["cells"]
        for table in _TABLES[figure](content["cells"])
    ]
    return [*shown, _summary(report["summary"])]


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _pair(paper: float | None, ours: float | None) -> str:
    return f"{number(paper)} / {number(ours)}"


def _serving(cells: Cells) -> list[Table]:
    return [_reproduction(cells), _beyond(cells)]


def _reproduction(cells: Cells) -> Table:
    """INFaaS++ and Llumnix, paper / simulator."""
    names = ("prefill_p99_s", "prefill_mean_s", "request_p99_s", "decode_p99_s")
    table = _table(
        "Figure 11, reproduction (paper / simulator; I = INFaaS++, L = Llumnix)",
        ("trace", "rate/s"),
        ("I P99 prefill s", "I mean request s", *(f"I/L {_short(n)}" for n in names), "I loss s", "L loss s"),
    )
    for cell in cells:
        infaas, llumnix = cell["ours"].get("infaas++", {}), cell["ours"].get("llumnix", {})
        ratios = cell["infaas_over"].get("llumnix", {})
        table.add_row(
            cell["trace"],
            number(cell["rate_per_s"]),
            *(
                _pair(cell["paper"][n]["infaas++"], infaas.get(n))
                for n in ("prefill_p99_s", "request_mean_s")
            ),
            *(_pair(cell["paper_infaas_over_llumnix"][n], ratios.get(n)) for n in names),
            _pair(cell["paper"]["preemption_loss_s"]["infaas++"], infaas.get("preemption_loss_s")),
            _pair(cell["paper"]["preemption_loss_s"]["llumnix"], llumnix.get("preemption_loss_s")),
        )
    return table


def _beyond(cells: Cells) -> Table:
    """How many times better than INFaaS++ each system is; its distance to the bounds."""
    names = ("prefill_p99_s", "prefill_mean_s", "decode_p99_s", "long_prompt_prefill_p99_s")
    systems = {"llumnix": "L", "llumnix_ledger": "L+ledger", "llumdeck": "Llumdeck"}
    table = _table(
        "Figure 11, beyond: INFaaS++ / system (Llumnix, Llumnix with ledger, Llumdeck), and bounds",
        ("trace", "rate/s"),
        (
            *(f"{_short(n)}: {', '.join(systems.values())}" for n in names),
            "Llumdeck P99 prefill s",
            "empty, pooled s",
            "Llumdeck loss s",
            "longest wait s: L, Llumdeck",
        ),
    )
    for cell in cells:
        over, ours = cell["infaas_over"], cell["ours"]
        longest = (number(ours.get(s, {}).get("longest_wait_s")) for s in ("llumnix", "llumdeck"))
        bounds = (number(ours.get(b, {}).get("prefill_p99_s")) for b in ("empty cluster", "pooled memory"))
        table.add_row(
            cell["trace"],
            number(cell["rate_per_s"]),
            *(", ".join(_two(over.get(system, {}).get(n)) for system in systems) for n in names),
            number(ours.get("llumdeck", {}).get("prefill_p99_s")),
            ", ".join(bounds),
            number(ours.get("llumdeck", {}).get("preemption_loss_s")),
            ", ".join(longest),
        )
    return table


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _short(name: str) -> str:
    words = name.removesuffix("_s").split("_")
    kind, figure = " ".join(words[:-1]), words[-1]
    return f"{'P99' if figure == 'p99' else figure} {kind}"


def _priorities(cells: Cells) -> list[Table]:
    systems = list(dict.fromkeys(system for cell in cells for system in cell["ours"]))
    table = _table(
        "Figure 13, priorities (S-S, 26/s, a tenth high; paper / simulator where the paper has it)",
        ("class", "CV", "seconds"),
        systems,
    )
    for cell in cells:
        for name in dict.fromkeys(n for ours in cell["ours"].values() for n in ours):
            paper = cell["paper"].get(name, {})
            shown = [
                _pair(paper[s], cell["ours"].get(s, {}).get(name))
                if s in paper
                else number(cell["ours"].get(s, {}).get(name))
                for s in systems
            ]
            table.add_row(cell["class"], str(cell["cv"]), _short(name), *shown)
    return [table]


def _scaling(cells: Cells) -> list[Table]:
    systems = list(dict.fromkeys(system for cell in cells for system in cell["ours"]))
    table = _table(
        "Figure 14, auto-scaling (L-L, 1 to 16 instances; paper / simulator where the paper has it)",
        ("arrivals", "rate/s or CV"),
        [f"{system} {what}" for system in systems for what in ("instances", "P99 prefill s")],
    )
    for cell in cells:
        at = cell.get("rates_per_s", cell.get("cv"))
        shown = []
        for system in systems:
            for name in ("instances", "prefill_p99_s"):
                paper, ours = cell["paper"][name].get(system), cell["ours"].get(system, {}).get(name)
                shown.append(number(ours) if paper is None else _pair(paper, ours))
        table.add_row(cell["arrivals"], number(at), *shown)
    return [table]


def _cost(cells: Cells) -> list[Table]:
    at = next(name for name in cells[0] if name.startswith("instances_at_p99"))
    table = _table(
        "Figure 15, cost: (instances, P99 prefill s) by scaling threshold; instances at equal P99",
        ("system", "thresholds, blocks"),
        ("simulator", "paper", at.replace("_", " ").replace("instances at p99", "instances at P99"), "paper"),
    )
    for cell in cells:
        table.add_row(
            cell["system"],
            ", ".join(map(str, cell["thresholds_blocks"])),
            _points(cell["points"]),
            _points(cell["paper_points"]),
            number(cell[at]),
            number(cell[f"paper_{at}"]),
        )
    return [table]


def _points(points: Sequence[Sequence[float]]) -> str:
    return "  ".join(f"({number(instances)}, {number(p99)})" for instances, p99 in points) or "-"


_TABLES: dict[str, Callable[[Cells], list[Table]]] = {
    "11": _serving,
    "13": _priorities,
    "14": _scaling,
    "15": _cost,
}

PAPER_SUMMARY = {
    "llumnix_vs_infaas_p99_prefill": 3.0,
    "llumnix_vs_infaas_mean_prefill": 2.15,
    "llumnix_vs_infaas_p99_request": 1.11,
    "llumnix_vs_infaas_p99_decode": 1.16,
    "llumnix_loss_left_vs_infaas": 0.30,
    "llumnix_saving_at_equal_p99": 0.206,
}
"""The same figures over the paper's own curves (its text has the best cells: 15x, 7.7x, 36 %)."""


def _summary(summary: Mapping[str, float]) -> Table:
    table = _table("Summary (geometric means over cells and seeds)", ("figure",), ("simulator", "paper"))
    for name, value in summary.items():
        table.add_row(name, f"{value:.3f}", number(PAPER_SUMMARY.get(name)))
    return table
