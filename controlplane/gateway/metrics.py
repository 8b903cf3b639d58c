"""``/metrics`` of a gateway: what clients saw, per class; and vLLM's own families of its front half.

=============================================  ==========================================================
llumdeck_gateway_requests_total                 by class and outcome; errors rising: the gateway's log
llumdeck_gateway_tokens_total                   by class and kind (prompt, cached, output)
llumdeck_gateway_ttft_seconds                   by class; above target: runbook slo-burn-rate
llumdeck_gateway_tpot_seconds                   by class; above target: runbook slo-burn-rate
llumdeck_gateway_queue_seconds                  by class; rising: runbook queue-time
llumdeck_gateway_moves_total                    migrations that requests went through, by class
llumdeck_gateway_recoveries_total               requests that lost their instance and went on, by class
=============================================  ==========================================================

Classes are few and come from the database; outcomes are cut to ``stop``, ``length``, ``abort``, ``error``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.records.types import FinishedRequest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = frozenset({"stop", "length", "abort"})
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)


class GatewayMetrics(Collector):
    """One gateway's own families, counted plainly at the end of every request and shaped when asked for."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._of_class: dict[str, _ClassFigures] = {}

    def request_finished(self, finished: FinishedRequest) -> None:
        """Count one request that is over."""
        name = finished.slo_class_served
        kept = self._of_class.get(name)
        if kept is None:
            kept = self._of_class[name] = _ClassFigures()
        kept.count(finished)

    def render(self) -> bytes:
        """Prometheus' text form: ours, then whatever vLLM's front half counted in this process."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        outcomes = CounterMetricFamily(
            "llumdeck_gateway_requests", "Requests over.", labels=["slo_class", "outcome"]
        )
        tokens = CounterMetricFamily("llumdeck_gateway_tokens", "Tokens.", labels=["slo_class", "kind"])
        for name, kept in self._of_class.items():
            for outcome, count in kept.outcomes.items():
                outcomes.add_metric([name, outcome], count)
            for kind, count in zip(("prompt", "cached", "output"), kept.tokens, strict=True):
                tokens.add_metric([name, kind], count)
        yield outcomes
        yield tokens
        yield self._histogram("llumdeck_gateway_ttft_seconds", "To the first token.", lambda kept: kept.ttft)
        yield self._histogram("llumdeck_gateway_tpot_seconds", "Per token.", lambda kept: kept.tpot)
        yield self._histogram("llumdeck_gateway_queue_seconds", "In the queue.", lambda kept: kept.queue)
        yield self._count("llumdeck_gateway_moves", "Migrations.", lambda kept: kept.moves)
        yield self._count("llumdeck_gateway_recoveries", "Recoveries.", lambda kept: kept.recoveries)

    def _histogram(self, name: str, says: str, of: Callable[[_ClassFigures], _Spread]) -> Metric:
        family = HistogramMetricFamily(name, says, labels=["slo_class"])
        for slo_class, kept in self._of_class.items():
            spread = of(kept)
            family.add_metric([slo_class], spread.buckets(), spread.sum)
        return family

    def _count(self, name: str, says: str, of: Callable[[_ClassFigures], int]) -> Metric:
        family = CounterMetricFamily(name, says, labels=["slo_class"])
        for slo_class, kept in self._of_class.items():
            family.add_metric([slo_class], of(kept))
        return family


class _Spread:
    """A histogram in the making."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and how many lie below it, as Prometheus counts them."""
        below, found = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


class _ClassFigures:
    """Of one class."""

    __slots__ = ("moves", "outcomes", "queue", "recoveries", "tokens", "tpot", "ttft")

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.tokens = [0, 0, 0]
        """Prompt, cached, output."""
        self.ttft, self.queue, self.tpot = _Spread(SECONDS), _Spread(SECONDS), _Spread(TOKEN_SECONDS)
        self.moves = self.recoveries = 0

    def count(self, finished: FinishedRequest) -> None:
        self.outcomes[finished.outcome if finished.outcome in OUTCOMES else "error"] += 1
        tokens = self.tokens
        tokens[0] += finished.prompt_tokens
        tokens[1] += finished.cached_tokens
        tokens[2] += finished.output_tokens
        self.queue.add(finished.queued_ms / 1000)
        self.moves += finished.moves
        self.recoveries += finished.recoveries
        if (ttft_ms := finished.ttft_ms) is not None:
            self.ttft.add(ttft_ms / 1000)
        if (tpot_ms := finished.tpot_ms) is not None:
            self.tpot.add(tpot_ms / 1000)
