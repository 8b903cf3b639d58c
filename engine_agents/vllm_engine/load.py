"""The engine's load in aggregates, read between two steps (microseconds per request)."""

from __future__ import annotations

from dataclasses import dataclass, field

from vllm.v1.request import Request, RequestStatus

from engine_agents.engines.port import ClassCount, EngineLoad
from engine_agents.vllm_engine.scheduler import MovingScheduler


@dataclass(slots=True)
class StepCounters:
    """Totals since start-up."""

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0


@dataclass(slots=True)
class _Sums:
    running: int = 0
    waiting: int = 0
    preempted_waiting: int = 0
    queued_blocks: int = 0
    unprefilled_tokens: int = 0
    classes: dict[str, list[int]] = field(default_factory=dict)
    """SLO class -> running, waiting, used blocks."""


def measure(scheduler: MovingScheduler, reserved_blocks: int, counters: StepCounters) -> EngineLoad:
    """Everything that an :class:`EngineLoad` says, from the scheduler's own books."""
    block_size = scheduler.block_size
    held = scheduler.kv_cache_manager.coordinator.single_type_managers[0].req_to_blocks
    sums = _Sums()
    for request_id, request in scheduler.requests.items():
        live = scheduler.live.get(request_id)
        counts = sums.classes.setdefault("" if live is None else live.slo_class, [0, 0, 0])
        blocks = len(held.get(request_id, ()))
        counts[2] += blocks
        missing = request.num_tokens - request.num_computed_tokens
        if request.status == RequestStatus.RUNNING:
            sums.running += 1
            counts[0] += 1
            sums.unprefilled_tokens += missing if missing > 1 else 0
        else:
            sums.waiting += 1
            counts[1] += 1
            sums.unprefilled_tokens += missing
            sums.queued_blocks += max(0, -(-request.num_tokens // block_size) - blocks)
            sums.preempted_waiting += live is not None and live.preempted
    return _as_load(scheduler, sums, reserved_blocks, counters)


def _as_load(
    scheduler: MovingScheduler, sums: _Sums, reserved_blocks: int, counters: StepCounters
) -> EngineLoad:
    pool = scheduler.kv_cache_manager.block_pool
    return EngineLoad(
        used_blocks=total_blocks(scheduler) - pool.get_num_free_blocks() - reserved_blocks,
        reserved_blocks=reserved_blocks,
        running=sums.running,
        waiting=sums.waiting,
        per_class=tuple(ClassCount(name, *counts) for name, counts in sorted(sums.classes.items())),
        head_of_line_blocks=head_of_line_blocks(scheduler),
        queued_blocks=sums.queued_blocks,
        unprefilled_tokens=sums.unprefilled_tokens,
        preempted_waiting=sums.preempted_waiting,
        preemptions_total=scheduler.preemptions_total,
        steps_total=counters.steps,
        step_seconds_total=counters.seconds,
        tokens_total=counters.tokens,
    )


def total_blocks(scheduler: MovingScheduler) -> int:
    """Blocks that requests can use: all but vLLM's null block."""
    return int(scheduler.kv_cache_manager.block_pool.num_gpu_blocks) - 1


def head_of_line_blocks(scheduler: MovingScheduler) -> int:
    """Blocks that the first waiting request needs before it can start; 0 if none waits."""
    first = _first_waiting(scheduler)
    if first is None:
        return 0
    held = len(scheduler.kv_cache_manager.get_block_ids(first.request_id)[0])
    return max(0, -(-int(first.num_tokens) // int(scheduler.block_size)) - held)


def promised_blocks(scheduler: MovingScheduler) -> int:
    """Blocks that waiting requests and prefills under way still need for the tokens they have."""
    held = scheduler.kv_cache_manager.coordinator.single_type_managers[0].req_to_blocks
    return sum(
        max(0, -(-request.num_tokens // scheduler.block_size) - len(held.get(request_id, ())))
        for request_id, request in scheduler.requests.items()
    )


def _first_waiting(scheduler: MovingScheduler) -> Request | None:
    for queue in (scheduler.kv_holding_waiting, scheduler.waiting):
        if queue:
            return queue.peek_request()
    return None
