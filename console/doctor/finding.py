"""What a check found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

OK, WARN, FAIL = "ok", "warn", "fail"
MARKS = {OK: "✓", WARN: "!", FAIL: "✗"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: str
    says: str
    """What was found, one sentence."""
    advice: str = ""
    """What to do about it; empty when nothing need be done."""

    def line(self) -> str:
        text = f"{MARKS[self.level]} {self.name}: {self.says}"
        return f"{text}\n    → {self.advice}" if self.advice else text

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def ok(name: str, says: str) -> Finding:
    return Finding(name, OK, says)


def warn(name: str, says: str, advice: str) -> Finding:
    return Finding(name, WARN, says, advice)


def fail(name: str, says: str, advice: str) -> Finding:
    return Finding(name, FAIL, says, advice)


Check = Callable[[], Iterable[Finding]]


def look(checks: Iterable[tuple[str, Check]]) -> list[Finding]:
    """Run all checks, each to its end; one that breaks is a finding itself."""
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check()
        except Exception as error:  # A doctor must not die of what it finds.
            found.append(
                fail(name, f"could not be looked at: {type(error).__name__}: {error}", "see the error")
            )
    return found


def within_ms(work: Callable[[], object]) -> float:
    """How long it takes, in milliseconds."""
    started_s = time.perf_counter()
    work()
    return (time.perf_counter() - started_s) * 1000
