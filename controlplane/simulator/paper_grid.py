"""What the figures share: how large the grid is, and how results of several seeds are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.scheduling.config import SchedulingConfig
from controlplane.simulator.metrics import RunMetrics, geometric_mean
from controlplane.simulator.readings import Reading

Key = tuple[str, ...]

HEADROOM_MIXES = ("M-M", "S-L")
"""The paper migrates below 10 free blocks per request in these, below 3 in the others."""
THRESHOLD_TOKENS = {True: 160.0, False: 48.0}
LLUMNIX_POLICIES = ("llumnix_base", "llumnix", "llumnix_ledger")


@dataclass(frozen=True, slots=True)
class Options:
    """How large the grid is. ``quick`` runs a part of the cells, to see that all is well."""

    seeds: tuple[int, ...] = (1, 2, 3)
    requests: int = 10_000
    quick: bool = False


def policy_for(policy: str, mix: str, **parts: Mapping[str, Any]) -> SchedulingConfig:
    """A policy as the paper sets it for a mix: Llumnix has its migration threshold there."""
    if policy in LLUMNIX_POLICIES:
        threshold = THRESHOLD_TOKENS[mix in HEADROOM_MIXES]
        rescheduling = {
            "source_threshold_tokens": threshold,
            "destination_threshold_tokens": threshold,
            **parts.pop("rescheduling", {}),
        }
        return SchedulingConfig.for_policy(policy, rescheduling=rescheduling, **parts)
    return SchedulingConfig.for_policy(policy, **parts)


@dataclass(frozen=True, slots=True)
class Results:
    """Metrics by key ``(figure, *cell, seed, system)``; some may be missing when the run was stopped."""

    by_key: Mapping[Key, RunMetrics]

    def cells(self, figure: str) -> list[Key]:
        """The cells of a figure of which anything is there, in order of first appearance."""
        return list(dict.fromkeys(key[1:-2] for key in self.by_key if key[0] == figure))

    def seeds(self, figure: str, cell: Key, *systems: str) -> list[str]:
        """The seeds of a cell for which all ``systems`` are there."""
        found = dict.fromkeys(key[-2] for key in self.by_key if key[0] == figure and key[1:-2] == cell)
        return [s for s in found if all((figure, *cell, s, system) in self.by_key for system in systems)]

    def values(self, figure: str, cell: Key, system: str, reading: Reading) -> list[float]:
        """One number per seed."""
        return [
            reading(self.by_key[(figure, *cell, seed, system)]) for seed in self.seeds(figure, cell, system)
        ]

    def mean(self, figure: str, cell: Key, system: str, reading: Reading) -> float | None:
        """Over the seeds; ``None`` when there is none."""
        values = self.values(figure, cell, system, reading)
        return sum(values) / len(values) if values else None

    def ratios(self, figure: str, cell: Key, above: str, below: str, reading: Reading) -> list[float]:
        """``above`` / ``below`` per seed, where both are there and above 0."""
        pairs = [
            (
                reading(self.by_key[(figure, *cell, seed, above)]),
                reading(self.by_key[(figure, *cell, seed, below)]),
            )
            for seed in self.seeds(figure, cell, above, below)
        ]
        return [a / b for a, b in pairs if a > 0 and b > 0]

    def ratio(self, figure: str, cell: Key, above: str, below: str, reading: Reading) -> float | None:
        """Geometric mean of :meth:`ratios`; ``None`` when there is none."""
        return mean_ratio(self.ratios(figure, cell, above, below, reading))

    def overall(
        self, figure: str, above: str, below: str, reading: Reading, cells: Iterable[Key] | None = None
    ) -> float | None:
        """Geometric mean of the ratios of all cells and seeds."""
        chosen = self.cells(figure) if cells is None else cells
        return mean_ratio(
            [ratio for cell in chosen for ratio in self.ratios(figure, cell, above, below, reading)]
        )


def mean_ratio(ratios: list[float]) -> float | None:
    """Geometric mean, ``None`` of nothing."""
    return geometric_mean(ratios) if ratios else None


def known(figures: Mapping[str, float | None]) -> dict[str, float]:
    """Without what could not be computed."""
    return {name: value for name, value in figures.items() if value is not None}
