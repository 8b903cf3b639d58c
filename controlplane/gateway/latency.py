"""Latency per SLO class over the last minute; pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter, deque
from collections.abc import Mapping

from controlplane.tenancy.types import ClassTerms
from engine_agents.messages import ClassLatency

WINDOW_S = 60.0
MAX_SAMPLES = 20_000


class _ClassWindow:
    """One class's samples in order of time, and each figure in order of size: a report sorts nothing."""

    __slots__ = ("_samples", "_tpot_ms", "_ttft_ms")

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float | None, float | None]] = deque()
        self._ttft_ms: list[float] = []
        self._tpot_ms: list[float] = []

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, at_s: float, ttft_ms: float | None, tpot_ms: float | None) -> None:
        self._samples.append((at_s, ttft_ms, tpot_ms))
        if ttft_ms is not None:
            insort(self._ttft_ms, ttft_ms)
        if tpot_ms is not None:
            insort(self._tpot_ms, tpot_ms)
        if len(self._samples) > MAX_SAMPLES:
            self._forget_oldest()

    def forget_before(self, limit_s: float) -> None:
        while self._samples and self._samples[0][0] < limit_s:
            self._forget_oldest()

    def row(self, name: str, open_now: int, terms: ClassTerms | None) -> ClassLatency:
        return ClassLatency(
            slo_class=name,
            requests=len(self._samples),
            open=open_now,
            ttft_p50_ms=percentile(self._ttft_ms, 0.5),
            ttft_p99_ms=percentile(self._ttft_ms, 0.99),
            tpot_p50_ms=percentile(self._tpot_ms, 0.5),
            tpot_p99_ms=percentile(self._tpot_ms, 0.99),
            ttft_attained=attained(self._ttft_ms, terms.ttft_target_ms if terms else None),
            tpot_attained=attained(self._tpot_ms, terms.tpot_target_ms if terms else None),
        )

    def _forget_oldest(self) -> None:
        _, ttft_ms, tpot_ms = self._samples.popleft()
        for ordered, value in ((self._ttft_ms, ttft_ms), (self._tpot_ms, tpot_ms)):
            if value is not None:
                del ordered[bisect_left(ordered, value)]


class LatencyWindow:
    """What finished in the last :data:`WINDOW_S` (of each class the newest :data:`MAX_SAMPLES` of it)."""

    def __init__(self) -> None:
        self._by_class: dict[str, _ClassWindow] = {}

    def add(self, at_s: float, slo_class: str, ttft_ms: float | None, tpot_ms: float | None) -> None:
        window = self._by_class.get(slo_class)
        if window is None:
            window = self._by_class[slo_class] = _ClassWindow()
        window.add(at_s, ttft_ms, tpot_ms)

    def report(
        self, now_s: float, open_by_class: Counter[str], terms: Mapping[str, ClassTerms]
    ) -> list[ClassLatency]:
        """One row per class that has open or recent requests, by name."""
        for window in self._by_class.values():
            window.forget_before(now_s - WINDOW_S)
        self._by_class = {name: window for name, window in self._by_class.items() if len(window)}
        names = self._by_class.keys() | {name for name, count in open_by_class.items() if count}
        return [
            self._by_class.get(name, _ClassWindow()).row(name, open_by_class[name], terms.get(name))
            for name in sorted(names)
        ]


def percentile(ordered: list[float], share: float) -> float | None:
    """Nearest rank of an ordered list; ``None`` of an empty one."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def attained(ordered: list[float], target_ms: int | None) -> float | None:
    """Share of an ordered list's values within the target; ``None`` without values or target."""
    if target_ms is None or not ordered:
        return None
    return bisect_right(ordered, target_ms) / len(ordered)
