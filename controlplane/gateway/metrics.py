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

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest

from controlplane.records.types import FinishedRequest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = frozenset({"stop", "length", "abort"})
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0)


class GatewayMetrics:
    """One gateway's own families; cheap enough for the end of every request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llumdeck_gateway_requests", "Requests over.", ["slo_class", "outcome"], registry=self.registry
        )
        self.tokens = Counter(
            "llumdeck_gateway_tokens", "Tokens.", ["slo_class", "kind"], registry=self.registry
        )
        self.ttft = _histogram("llumdeck_gateway_ttft_seconds", "To the first token.", SECONDS, self.registry)
        self.tpot = _histogram("llumdeck_gateway_tpot_seconds", "Per token.", TOKEN_SECONDS, self.registry)
        self.queue = _histogram("llumdeck_gateway_queue_seconds", "In the queue.", SECONDS, self.registry)
        self.moves = Counter("llumdeck_gateway_moves", "Migrations.", ["slo_class"], registry=self.registry)
        self.recoveries = Counter(
            "llumdeck_gateway_recoveries", "Recoveries.", ["slo_class"], registry=self.registry
        )

        self._of_class: dict[str, _ClassFigures] = {}

    def request_finished(self, finished: FinishedRequest) -> None:
        """Count one request that is over."""
        name = finished.slo_class_served
        outcome = finished.outcome if finished.outcome in OUTCOMES else "error"
        kept = self._of_class.get(name)
        if kept is None:
            kept = self._of_class[name] = _ClassFigures(self, name)
        kept.outcome(outcome).inc()
        kept.prompt.inc(finished.prompt_tokens)
        kept.output.inc(finished.output_tokens)
        kept.queue.observe(finished.queued_ms / 1000)
        if finished.cached_tokens:
            kept.cached.inc(finished.cached_tokens)
        if finished.moves:
            kept.moves.inc(finished.moves)
        if finished.recoveries:
            kept.recoveries.inc(finished.recoveries)
        if finished.ttft_ms is not None:
            kept.ttft.observe(finished.ttft_ms / 1000)
        if finished.tpot_ms is not None:
            kept.tpot.observe(finished.tpot_ms / 1000)

    def render(self) -> bytes:
        """Prometheus' text form: ours, then whatever vLLM's front half counted in this process."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)


class _ClassFigures:
    """One class's series, looked up once: by labels each look-up costs as much as the counting."""

    def __init__(self, of: GatewayMetrics, name: str) -> None:
        self._requests, self._name = of.requests, name
        self._outcomes: dict[str, Counter] = {}
        self.prompt, self.cached, self.output = (
            of.tokens.labels(name, kind) for kind in ("prompt", "cached", "output")
        )
        self.queue, self.ttft, self.tpot = of.queue.labels(name), of.ttft.labels(name), of.tpot.labels(name)
        self.moves, self.recoveries = of.moves.labels(name), of.recoveries.labels(name)

    def outcome(self, outcome: str) -> Counter:
        found = self._outcomes.get(outcome)
        if found is None:
            found = self._outcomes[outcome] = self._requests.labels(self._name, outcome)
        return found


def _histogram(name: str, says: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(name, says, ["slo_class"], buckets=buckets, registry=registry)
