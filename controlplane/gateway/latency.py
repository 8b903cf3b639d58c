"""Latency per SLO class over the last minute; pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from controlplane.tenancy.types import ClassTerms
from engine_agents.messages import ClassLatency

WINDOW_S = 60.0
MAX_SAMPLES = 20_000


class _Sample(NamedTuple):
    at_s: float
    slo_class: str
    ttft_ms: float | None
    tpot_ms: float | None


class LatencyWindow:
    """What finished in the last :data:`WINDOW_S` (the newest :data:`MAX_SAMPLES` of it)."""

    def __init__(self) -> None:
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)

    def add(self, at_s: float, slo_class: str, ttft_ms: float | None, tpot_ms: float | None) -> None:
        self._samples.append(_Sample(at_s, slo_class, ttft_ms, tpot_ms))

    def report(
        self, now_s: float, open_by_class: Counter[str], terms: Mapping[str, ClassTerms]
    ) -> list[ClassLatency]:
        """One row per class that has open or recent requests, by name."""
        while self._samples and now_s - self._samples[0].at_s > WINDOW_S:
            self._samples.popleft()
        names = sorted(
            {sample.slo_class for sample in self._samples} | {n for n, k in open_by_class.items() if k}
        )
        return [self._row(name, open_by_class[name], terms.get(name)) for name in names]

    def _row(self, name: str, open_now: int, terms: ClassTerms | None) -> ClassLatency:
        mine = [sample for sample in self._samples if sample.slo_class == name]
        ttft = sorted(sample.ttft_ms for sample in mine if sample.ttft_ms is not None)
        tpot = sorted(sample.tpot_ms for sample in mine if sample.tpot_ms is not None)
        return ClassLatency(
            slo_class=name,
            requests=len(mine),
            open=open_now,
            ttft_p50_ms=percentile(ttft, 0.5),
            ttft_p99_ms=percentile(ttft, 0.99),
            tpot_p50_ms=percentile(tpot, 0.5),
            tpot_p99_ms=percentile(tpot, 0.99),
            ttft_attained=attained(ttft, terms.ttft_target_ms if terms else None),
            tpot_attained=attained(tpot, terms.tpot_target_ms if terms else None),
        )


def percentile(ordered: list[float], share: float) -> float | None:
    """Nearest rank of an ordered list; ``None`` of an empty one."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def attained(values: Iterable[float], target_ms: int | None) -> float | None:
    """Share of values within the target; ``None`` without values or target."""
    within = [value <= target_ms for value in values] if target_ms is not None else []
    return sum(within) / len(within) if within else None
