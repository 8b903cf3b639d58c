"""One trace from parts that never spoke of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from controlplane.gateway.tracing import request_finished
from controlplane.records.types import FinishedRequest
from engine_agents.messages import MigrationOutcome, StageRecord
from engine_agents.tracing import MigrationTrace, Spans, otlp_spans, root_span_id_of, trace_id_of

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def finished() -> FinishedRequest:
    return FinishedRequest(
        request_id="r-1", tenant_id=1, key_id=1, slo_class_asked="",
        slo_class_served="standard", model="tiny",
        arrived_at=NOW, first_token_at=NOW + timedelta(seconds=1), finished_at=NOW + timedelta(seconds=3),
        prompt_tokens=10, output_tokens=11, instance_ids=("i-1", "i-2"), dispatches=2, moves=1, recoveries=0,
        outcome="stop", queued_ms=250.0,
    )  # fmt: skip


def outcome() -> MigrationOutcome:
    stages = [
        StageRecord(stage=n, blocks=9 - n, bytes=99, duration_ms=100.0, tokens_meanwhile=2) for n in range(2)
    ]
    return MigrationOutcome(
        migration_id="m-1", request_id="r-1", source_instance_id="i-1", destination_instance_id="i-2",
        rule="load",
        why="", slo_class="standard", tenant="acme", state="done", stages=stages, downtime_ms=5.0,
        at_s=(NOW + timedelta(seconds=2)).timestamp(),
    )  # fmt: skip


def test_a_gateway_and_an_agent_write_one_trace():
    gateway, agent = InMemorySpanExporter(), InMemorySpanExporter()
    at_gateway, at_agent = Spans("gateway", gateway), Spans("agent", agent)
    at_agent.migration(outcome(), begin_s=(NOW + timedelta(seconds=1.5)).timestamp())
    request_finished(at_gateway, finished())
    at_gateway.close()
    at_agent.close()
    spans = [*gateway.get_finished_spans(), *agent.get_finished_spans()]
    names = ["request", "queue", "prefill", "decode", "migration", "migration stage 0", "migration stage 1"]
    assert [each.name for each in spans] == names
    assert {each.context.trace_id for each in spans} == {trace_id_of("r-1")}
    root, parts = spans[0], spans[1:]
    assert root.parent is None
    assert root.context.span_id == root_span_id_of("r-1")
    assert {each.parent.span_id for each in parts} == {root.context.span_id}
    assert all(root.start_time <= each.start_time <= each.end_time <= root.end_time for each in parts)
    assert spans[4].attributes["llumdeck.destination"] == "i-2"


def test_requests_do_not_share_a_trace():
    assert trace_id_of("r-1") != trace_id_of("r-2")


def test_tracing_is_off_by_default():
    assert otlp_spans("gateway", "") is None
    request_finished(None, finished())


def test_an_agent_writes_a_migration_once_it_is_over():
    kept = InMemorySpanExporter()
    trace = MigrationTrace(Spans("agent", kept))
    begun = msgspec.structs.replace(outcome(), state="copying", at_s=(NOW + timedelta(seconds=1)).timestamp())
    trace.outcome(begun)
    trace.outcome(outcome())
    trace.close()
    spans = kept.get_finished_spans()
    assert [each.name for each in spans] == ["migration", "migration stage 0", "migration stage 1"]
    assert spans[0].end_time - spans[0].start_time == 10**9
    MigrationTrace(None).outcome(outcome())
