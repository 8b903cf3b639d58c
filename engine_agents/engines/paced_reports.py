"""What the paced engine says of itself: its kind, its load, its requests, and the outputs of a step."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from engine_agents.engines.paced_batch import PacedBatch
from engine_agents.engines.paced_requests import Made, PacedLive, PacedOptions
from engine_agents.engines.paced_wire import PacedOutput, PacedOutputs
from engine_agents.engines.port import ClassCount, EngineInfo, EngineLoad, RequestState, StepOutputs
from engine_agents.messages import RequestInfo, split_engine_id

ENGINE_NAME = "simulated"
ENGINE_VERSION = "paced-1"

_ENCODE = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class Totals:
    """Since start-up."""

    steps: int = 0
    step_seconds: float = 0.0
    tokens: int = 0


def measure(batch: PacedBatch, totals: Totals) -> EngineLoad:
    """Everything that an :class:`EngineLoad` says."""
    reserved = sum(reservation.blocks for reservation in batch.reservations)
    return EngineLoad(
        used_blocks=batch.memory.geometry.blocks - batch.memory.free_blocks - reserved,
        reserved_blocks=reserved,
        running=len(batch.running),
        waiting=len(batch.waiting),
        per_class=per_class(batch.live.values()),
        head_of_line_blocks=batch.demand_blocks(batch.waiting[0]) if batch.waiting else 0,
        queued_blocks=batch.queued_blocks(),
        unprefilled_tokens=sum(max(0, len(live.tokens) - live.computed - 1) for live in batch.live.values()),
        preempted_waiting=sum(live.state is RequestState.PREEMPTED for live in batch.waiting),
        preemptions_total=batch.preemptions_total,
        steps_total=totals.steps,
        step_seconds_total=totals.step_seconds,
        tokens_total=totals.tokens,
    )


def information(batch: PacedBatch, options: PacedOptions, served_model: str) -> EngineInfo:
    """What the engine is."""
    return EngineInfo(
        engine=ENGINE_NAME,
        engine_version=ENGINE_VERSION,
        served_model=served_model,
        max_model_len=options.max_model_len,
        block_size_tokens=options.block_size_tokens,
        total_blocks=batch.memory.geometry.blocks,
        kv_bytes_per_token=options.kv_bytes_per_token,
        compatibility=(
            f"{ENGINE_VERSION}|{served_model}|block={options.block_size_tokens}"
            f"|kv={options.kv_bytes_per_token}|vocab={options.vocabulary}|len={options.max_model_len}"
        ),
    )


def outputs_of(client: str, made: list[Made]) -> StepOutputs:
    """What one step made for one gateway, in vLLM's encoding."""
    outputs = [
        PacedOutput(one.live.engine_id, [one.token_id], finish_reason=one.finish_reason) for one in made
    ]
    return StepOutputs(
        client=client,
        engine_ids=tuple(one.live.engine_id for one in made),
        starts=tuple(one.position for one in made),
        payload=_ENCODE(PacedOutputs(0, outputs, timestamp=time.monotonic())),
        finished=tuple(one.live.engine_id for one in made if one.finish_reason is not None),
    )


def per_class(lives: Iterable[PacedLive]) -> tuple[ClassCount, ...]:
    counts: dict[str, list[int]] = {}
    for live in lives:
        count = counts.setdefault(live.image.slo_class, [0, 0, 0])
        count[0] += live.state in (RequestState.RUNNING, RequestState.FROZEN)
        count[1] += live.state in (RequestState.WAITING, RequestState.PREEMPTED)
        count[2] += len(live.blocks)
    return tuple(ClassCount(name, *count) for name, count in sorted(counts.items()))


def describe(live: PacedLive) -> RequestInfo:
    """For people."""
    return RequestInfo(
        engine_id=live.engine_id,
        request_id=split_engine_id(live.engine_id)[0],
        slo_class=live.image.slo_class,
        tenant=live.image.tenant,
        state=live.state.value,
        prompt_tokens=live.prompt_tokens,
        output_tokens=live.output_tokens,
        blocks=len(live.blocks),
        arrived_at_s=live.image.arrived_at_s,
    )
