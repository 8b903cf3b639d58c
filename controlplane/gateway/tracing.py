"""A request's spans, written by its gateway when it is over: the whole, its wait, prefill and decode."""

from __future__ import annotations

from controlplane.records.types import FinishedRequest
from engine_agents.tracing import Spans, Value


def request_finished(spans: Spans | None, finished: FinishedRequest) -> None:
    """Nothing where tracing is off. Neither prompt nor output is in a span."""
    if spans is None:
        return
    name, begin_s, end_s = (
        finished.request_id,
        finished.arrived_at.timestamp(),
        finished.finished_at.timestamp(),
    )
    bound_s = begin_s + finished.queued_ms / 1000
    facts: dict[str, Value] = {
        "llumdeck.request_id": name,
        "llumdeck.slo_class": finished.slo_class_served,
        "llumdeck.outcome": finished.outcome,
        "llumdeck.moves": finished.moves,
        "llumdeck.recoveries": finished.recoveries,
        "gen_ai.request.model": finished.model,
        "gen_ai.usage.input_tokens": finished.prompt_tokens,
        "gen_ai.usage.output_tokens": finished.output_tokens,
    }
    spans.root(name, "request", begin_s, end_s, facts)
    spans.child(name, "queue", begin_s, min(bound_s, end_s), {})
    if finished.first_token_at is None:
        return
    first_s = finished.first_token_at.timestamp()
    places = list(finished.instance_ids)
    spans.child(name, "prefill", bound_s, first_s, {"llumdeck.instance": places[0] if places else ""})
    spans.child(name, "decode", first_s, end_s, {"llumdeck.instance": places[-1] if places else ""})
