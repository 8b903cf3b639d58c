"""OpenTelemetry spans of a request and of its migrations, by setting; off by default.

No context travels with a request: the trace's id is derived from the request's id, and
so is the id of its root span. A gateway and two agents that never spoke of tracing put
their spans into one trace all the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from engine_agents.messages import MigrationOutcome

Value = str | int | float | bool
NS = 1_000_000_000


def trace_id_of(request_id: str) -> int:
    """128 bits, never zero."""
    return int.from_bytes(hashlib.sha256(f"trace:{request_id}".encode()).digest()[:16]) or 1


def root_span_id_of(request_id: str) -> int:
    """64 bits, never zero."""
    return int.from_bytes(hashlib.sha256(f"root:{request_id}".encode()).digest()[:8]) or 1


class _Ids(IdGenerator):
    """Random ids, but for the span whose ids were settled beforehand."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.settled: tuple[int, int] | None = None

    def generate_span_id(self) -> int:
        return self.settled[1] if self.settled else self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        return self.settled[0] if self.settled else self._random.generate_trace_id()


class Spans:
    """Writes spans after the fact, with their own times. Not for several threads at once."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("llumdeck")

    def root(
        self, request_id: str, name: str, begin_s: float, end_s: float, facts: Mapping[str, Value]
    ) -> None:
        """The span of the whole request (Unix seconds)."""
        self._ids.settled = (trace_id_of(request_id), root_span_id_of(request_id))
        try:
            span = self._tracer.start_span(name, start_time=int(begin_s * NS), attributes=dict(facts))
        finally:
            self._ids.settled = None
        span.end(end_time=int(end_s * NS))

    def child(
        self, request_id: str, name: str, begin_s: float, end_s: float, facts: Mapping[str, Value]
    ) -> None:
        """A part of it; whoever made the root, and when, does not matter."""
        parent = SpanContext(
            trace_id_of(request_id), root_span_id_of(request_id), is_remote=True, trace_flags=TraceFlags(1)
        )
        context = set_span_in_context(NonRecordingSpan(parent))
        span = self._tracer.start_span(
            name, context=context, start_time=int(begin_s * NS), attributes=dict(facts)
        )
        span.end(end_time=int(max(begin_s, end_s) * NS))

    def migration(self, outcome: MigrationOutcome, *, begin_s: float) -> None:
        """A finished migration and its stages, as its source measured them."""
        facts: dict[str, Value] = {
            "llumdeck.migration_id": outcome.migration_id,
            "llumdeck.source": outcome.source_instance_id,
            "llumdeck.destination": outcome.destination_instance_id,
            "llumdeck.rule": outcome.rule,
            "llumdeck.outcome": outcome.state,
        }
        if outcome.downtime_ms is not None:
            facts["llumdeck.downtime_ms"] = outcome.downtime_ms
        self.child(outcome.request_id, "migration", begin_s, outcome.at_s, facts)
        at_s = begin_s
        for stage in outcome.stages:
            end_s = at_s + stage.duration_ms / 1000
            about: dict[str, Value] = {"llumdeck.blocks": stage.blocks, "llumdeck.bytes": stage.bytes}
            self.child(outcome.request_id, f"migration stage {stage.stage}", at_s, end_s, about)
            at_s = end_s

    def close(self) -> None:
        """Send what waits, for a few seconds at most."""
        self._provider.shutdown()


def otlp_spans(service: str, endpoint: str) -> Spans | None:
    """Spans to a collector (OTLP over HTTP, e.g. ``http://collector:4318``); ``None`` where none is set."""
    if not endpoint:
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter: Any = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)
    return Spans(service, exporter)


class MigrationTrace:
    """What a source reports of its migrations, as spans once they are over."""

    FINAL = frozenset({"done", "aborted"})

    def __init__(self, spans: Spans | None) -> None:
        self._spans = spans
        self._began_s: dict[str, float] = {}

    def outcome(self, outcome: MigrationOutcome) -> None:
        """One report; costs nothing where tracing is off."""
        if self._spans is None:
            return
        began_s = self._began_s.setdefault(outcome.migration_id, outcome.at_s)
        if outcome.state in self.FINAL:
            del self._began_s[outcome.migration_id]
            self._spans.migration(outcome, begin_s=began_s)

    def close(self) -> None:
        if self._spans is not None:
            self._spans.close()
