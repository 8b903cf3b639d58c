"""What all requests felt, by SLO class: numbers first, then a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from console.replay.client import Felt

ALL = "all"


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, median and 99th percentile; absent where nothing was measured."""

    mean: float | None = None
    p50: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread:
        known = np.array([value for value in values if value is not None], dtype=np.float64)
        if not len(known):
            return cls()
        return cls(float(known.mean()), *(float(value) for value in np.percentile(known, [50, 99])))

    def as_dict(self) -> dict[str, float | None]:
        return {"mean": self.mean, "p50": self.p50, "p99": self.p99}


@dataclass(frozen=True, slots=True)
class ClassReport:
    slo_class: str
    requests: int
    failed: int
    output_tokens: int
    ttft_ms: Spread
    tpot_ms: Spread
    end_to_end_ms: Spread

    @classmethod
    def of(cls, slo_class: str, felt: Sequence[Felt]) -> ClassReport:
        good = [each for each in felt if not each.failure]
        return cls(
            slo_class=slo_class,
            requests=len(felt),
            failed=len(felt) - len(good),
            output_tokens=sum(each.got_tokens for each in good),
            ttft_ms=Spread.of(each.ttft_ms for each in good),
            tpot_ms=Spread.of(each.tpot_ms for each in good),
            end_to_end_ms=Spread.of(each.end_to_end_ms for each in good),
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "failed": self.failed,
            "output_tokens": self.output_tokens,
            "ttft_ms": self.ttft_ms.as_dict(),
            "tpot_ms": self.tpot_ms.as_dict(),
            "end_to_end_ms": self.end_to_end_ms.as_dict(),
        }


def reports(felt: Sequence[Felt]) -> list[ClassReport]:
    """One per class by name, then all together."""
    names = sorted({each.slo_class for each in felt})
    single = [ClassReport.of(name, [each for each in felt if each.slo_class == name]) for name in names]
    return [*single, ClassReport.of(ALL, felt)]


def failures(felt: Iterable[Felt]) -> dict[str, int]:
    """How often each kind, most frequent first."""
    return dict(Counter(each.failure for each in felt if each.failure).most_common())


def table(found: Sequence[ClassReport]) -> Table:
    """Three rows per class, so that it fits an ordinary terminal."""
    drawn = Table(title="by SLO class")
    drawn.add_column("class")
    for title in ("requests", "failed", "tokens"):
        drawn.add_column(title, justify="right")
    drawn.add_column("in ms")
    for title in ("mean", "P50", "P99"):
        drawn.add_column(title, justify="right")
    for report in found:
        head = [report.slo_class, *map(str, (report.requests, report.failed, report.output_tokens))]
        rows = (("TTFT", report.ttft_ms), ("TPOT", report.tpot_ms), ("end to end", report.end_to_end_ms))
        for name, spread in rows:
            drawn.add_row(*head, name, *map(_shown, spread.as_dict().values()))
            head = [""] * len(head)
        drawn.add_section()
    return drawn


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
