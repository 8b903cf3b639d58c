"""A step raised: find whom to blame, let the others go on.

vLLM's own answer is to end the engine. Here the requests that were new in the
step end with an error, since the others have passed a step before; if there was
none, or if the next step fails too, all that took part do. Whoever goes on is
recomputed from its tokens, for nothing that the broken step left is trusted.
"""

from __future__ import annotations

import time

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.request import Request, RequestStatus

from engine_agents.vllm_engine.scheduler import MovingScheduler
from engine_agents.vllm_engine.worker import RequestStates


def end_culprits(
    scheduler: MovingScheduler, states: RequestStates, error: Exception, failures_in_a_row: int
) -> dict[int, EngineCoreOutputs]:
    """End whom the failure is blamed on, restart the others; returns the outputs per client number."""
    output = scheduler.last_output
    states.abandon_step()
    blamed = suspects(scheduler, output, failures_in_a_row)
    owners = {request_id: scheduler.requests[request_id].client_index for request_id in blamed}
    outputs: dict[int, list[EngineCoreOutput]] = {}
    for request in [request for request in scheduler.running if request.request_id not in blamed]:
        _restart(scheduler, states, request)
        missing = _undelivered(scheduler, request)
        if missing is not None:
            outputs.setdefault(request.client_index, []).append(missing)
    live = dict(scheduler.live)
    scheduler.end(sorted(blamed), RequestStatus.FINISHED_ERROR)
    for request_id in blamed:
        if request_id in live:
            scheduler.live[request_id] = live[request_id]
            failed = EngineCoreOutput(
                request_id, [], finish_reason=FinishReason.ERROR, stop_reason=_reason(error)
            )
            outputs.setdefault(owners[request_id], []).append(failed)
    return {client: EngineCoreOutputs(outputs=outs) for client, outs in outputs.items()}


def suspects(scheduler: MovingScheduler, output: SchedulerOutput | None, failures_in_a_row: int) -> set[str]:
    """Ids of the requests that the failure is blamed on; never empty while any request runs."""
    if output is None:
        # schedule() itself raised: whoever stands last in the batch came last.
        scheduled = {request.request_id for request in scheduler.running}
        new = {request.request_id for request in scheduler.running[-1:]}
    else:
        scheduled = set(output.num_scheduled_tokens)
        new = {data.req_id for data in output.scheduled_new_reqs}
        new |= set(output.scheduled_cached_reqs.resumed_req_ids)
    blamed = new if new and failures_in_a_row == 1 else scheduled
    if failures_in_a_row > 2:
        blamed = set(scheduler.requests) - set(scheduler.frozen)
    return {request_id for request_id in blamed if request_id in scheduler.requests}


def _restart(scheduler: MovingScheduler, states: RequestStates, request: Request) -> None:
    """Put a request back to waiting and rebuild its runner state from its tokens."""
    scheduler.running.remove(request)
    request.num_in_flight_tokens = 0
    scheduler._preempt_request(request, time.monotonic())
    states.forget(request.request_id)
    states.create(request, ([],), states.generator_after(request))


def _undelivered(scheduler: MovingScheduler, request: Request) -> EngineCoreOutput | None:
    """Tokens that the broken step made but never handed out."""
    live = scheduler.live.get(request.request_id)
    if live is None or live.delivered_tokens >= request.num_output_tokens:
        return None
    return EngineCoreOutput(request.request_id, list(request.output_token_ids[live.delivered_tokens :]))


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
