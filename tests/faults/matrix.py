"""What the fault tests found, case by case: one row per case, printed after the run and kept as JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

PROPERTY = "fault trial"
Test = TypeVar("Test", bound=Callable[..., object])


def varied(*names: str) -> Callable[[Test], Test]:
    """The test takes ``variant``: each of these in the long form, one of them in ``make test``."""

    def note(test: Test) -> Test:
        test.variants = names  # type: ignore[attr-defined]
        return test

    return note


def on_real_engines(test: Test) -> Test:
    """In ``make test``, too, this is tried on vLLM; the other cases are on paced engines there."""
    test.real = True  # type: ignore[attr-defined]
    return test


@dataclass
class Trial:
    """One fault, tried once. Counts are of tokens, but for ``requests``, ``failed`` and ``leaked``."""

    case: int
    title: str
    seed: int
    requests: int = 0
    lost: int = 0
    """Tokens of the undisturbed run that no client got."""
    duplicated: int = 0
    wrong: int = 0
    """Tokens, or usage, finish reasons, log-probabilities, that differ from the undisturbed run."""
    leaked: int = 0
    """Blocks, reservations or requests that somebody still holds after everything has ended."""
    failed: int = 0
    """Requests that ended with an error although an instance could have served them."""
    gaps_ms: list[float] = field(default_factory=list)
    """Longest pause between two tokens, for each client that the fault touched."""
    seen: dict[str, float] = field(default_factory=dict)
    """Anything else worth a look: refusals, time to free, what was detected."""
    broke: bool = False
    """The trial itself did not come to its end."""

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong or self.leaked or self.failed)

    def note(self, **numbers: float) -> None:
        """Add to numbers that are shown beside the row."""
        for name, value in numbers.items():
            self.seen[name] = self.seen.get(name, 0) + value

    def describe(self) -> str:
        return (
            f"case {self.case}, seed {self.seed}: lost {self.lost}, duplicated {self.duplicated}, "
            f"wrong {self.wrong}, leaked {self.leaked}, failed {self.failed} of {self.requests} requests"
        )


class Matrix:
    """Fixture ``matrix``: hands out trials and keeps what came of them with the test's report."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    @contextlib.contextmanager
    def trial(self, case: int, title: str, seed: int, *, must_be_clean: bool = True) -> Iterator[Trial]:
        """Try one case once; fails when anything was lost, duplicated, wrong or leaked.

        ``must_be_clean=False`` is for negative controls: they are kept out of the matrix.
        """
        trial = Trial(case, title, seed)
        try:
            yield trial
        except BaseException:
            trial.broke = True
            raise
        finally:
            if must_be_clean:
                self._node.user_properties.append((PROPERTY, asdict(trial)))
        if must_be_clean:
            assert trial.clean, trial.describe()


@dataclass(frozen=True, slots=True)
class Row:
    """All trials of one case."""

    case: int
    title: str
    trials: Sequence[Trial]

    def total(self, name: str) -> int:
        return sum(getattr(trial, name) for trial in self.trials)

    @property
    def gaps_ms(self) -> list[float]:
        return sorted(gap for trial in self.trials for gap in trial.gaps_ms)

    @property
    def seen(self) -> dict[str, float]:
        """Sums over the trials, but for times (``…_ms``), of which the longest counts."""
        found: dict[str, float] = {}
        for trial in self.trials:
            for name, value in trial.seen.items():
                both = (found.get(name, 0), value)
                found[name] = max(both) if name.endswith("_ms") else sum(both)
        return found

    def as_json(self) -> dict[str, Any]:
        counts = {name: self.total(name) for name in COUNTS}
        gaps = {"gap_p50_ms": percentile(self.gaps_ms, 50), "gap_p99_ms": percentile(self.gaps_ms, 99)}
        tried = {"case": self.case, "title": self.title, "tried": len(self.trials)}
        return {**tried, **counts, "broke": self.total("broke"), **gaps, "seen": self.seen}


COUNTS = ("requests", "lost", "duplicated", "wrong", "leaked", "failed")


def percentile(sorted_values: Sequence[float], percent: float) -> float | None:
    """Nearest rank; ``None`` of nothing."""
    if not sorted_values:
        return None
    rank = max(0, -(-len(sorted_values) * percent // 100) - 1)
    return round(sorted_values[int(rank)], 1)


def rows_of(reports: Iterable[Any]) -> list[Row]:
    """The rows of the tests that have run, by case."""
    trials = [
        Trial(**properties)
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, properties in report.user_properties
        if name == PROPERTY
    ]
    by_case: dict[tuple[int, str], list[Trial]] = {}
    for trial in sorted(trials, key=lambda one: (one.case, one.title, one.seed)):
        by_case.setdefault((trial.case, trial.title), []).append(trial)
    return [Row(case, title, found) for (case, title), found in by_case.items()]


def render(rows: Sequence[Row]) -> str:
    """A table for people."""
    lines = [
        f"{'case':>4}  {'tried':>5} {'reqs':>5} {'lost':>4} {'dup':>4} {'wrong':>5} {'leaked':>6}"
        f" {'failed':>6} {'p50 ms':>8} {'p99 ms':>8}  what"
    ]
    for row in rows:
        of = {**row.as_json()}
        seen = ", ".join(f"{name} {value:g}" for name, value in row.seen.items())
        broke = f"  BROKE {of['broke']}" if of["broke"] else ""
        gaps = [f"{of[name]:8.1f}" if of[name] is not None else f"{'–':>8}" for name in GAPS]
        lines.append(
            f"{row.case:>4}  {of['tried']:>5} {of['requests']:>5} {of['lost']:>4} {of['duplicated']:>4}"
            f" {of['wrong']:>5} {of['leaked']:>6} {of['failed']:>6} {' '.join(gaps)}  {row.title}"
            f"{f' ({seen})' if seen else ''}{broke}"
        )
    return "\n".join(lines)


GAPS = ("gap_p50_ms", "gap_p99_ms")


def write_json(rows: Sequence[Row], path: Path) -> None:
    total = {name: sum(row.total(name) for row in rows) for name in (*COUNTS, "broke")}
    path.write_text(json.dumps({"cases": [row.as_json() for row in rows], "total": total}, indent=1) + "\n")
