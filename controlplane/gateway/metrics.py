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
        self._requests = Counter(
            "llumdeck_gateway_requests", "Requests over.", ["slo_class", "outcome"], registry=self.registry
        )
        self._tokens = Counter(
            "llumdeck_gateway_tokens", "Tokens.", ["slo_class", "kind"], registry=self.registry
        )
        self._ttft = _histogram(
            "llumdeck_gateway_ttft_seconds", "To the first token.", SECONDS, self.registry
        )
        self._tpot = _histogram("llumdeck_gateway_tpot_seconds", "Per token.", TOKEN_SECONDS, self.registry)
        self._queue = _histogram("llumdeck_gateway_queue_seconds", "In the queue.", SECONDS, self.registry)
        self._moves = Counter("llumdeck_gateway_moves", "Migrations.", ["slo_class"], registry=self.registry)
        self._recoveries = Counter(
            "llumdeck_gateway_recoveries", "Recoveries.", ["slo_class"], registry=self.registry
        )

    def request_finished(self, finished: FinishedRequest) -> None:
        """Count one request that is over."""
        name = finished.slo_class_served
        outcome = finished.outcome if finished.outcome in OUTCOMES else "error"
        self._requests.labels(name, outcome).inc()
        self._tokens.labels(name, "prompt").inc(finished.prompt_tokens)
        self._tokens.labels(name, "cached").inc(finished.cached_tokens)
        self._tokens.labels(name, "output").inc(finished.output_tokens)
        self._queue.labels(name).observe(finished.queued_ms / 1000)
        self._moves.labels(name).inc(finished.moves)
        self._recoveries.labels(name).inc(finished.recoveries)
        if finished.ttft_ms is not None:
            self._ttft.labels(name).observe(finished.ttft_ms / 1000)
        if finished.tpot_ms is not None:
            self._tpot.labels(name).observe(finished.tpot_ms / 1000)

    def render(self) -> bytes:
        """Prometheus' text form: ours, then whatever vLLM's front half counted in this process."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)


def _histogram(name: str, says: str, buckets: tuple[float, ...], registry: CollectorRegistry) -> Histogram:
    return Histogram(name, says, ["slo_class"], buckets=buckets, registry=registry)
