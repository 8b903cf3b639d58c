"""vLLM's scheduler with requests that come and go between steps.

A *frozen* request keeps its blocks and its slot but is in no queue; a request that
arrives enters ``running`` with its KV computed, as if it had been left out of one
step; one that comes with tokens but without KV waits like a pre-empted one, which
is what vLLM recomputes. All methods run on the engine's thread, between steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.request import Request, RequestStatus

from engine_agents.vllm_engine.live import LiveRequest


def ignore_preemption(engine_id: str) -> None:
    """Default of :attr:`MovingScheduler.on_preempted`."""


class MovingScheduler(Scheduler):  # type: ignore[misc]
    """``scheduler_cls`` of our engines; priority scheduling, no async scheduling."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.live: dict[str, LiveRequest] = {}
        self.frozen: dict[str, Request] = {}
        self.arriving_slots = 0
        self.preemptions_total = 0
        self.on_preempted: Callable[[str], None] = ignore_preemption
        self.last_output: SchedulerOutput | None = None
        self._slots: int = self.scheduler_config.max_num_active_seqs or self.max_num_running_reqs

    # ---- what the stock scheduler calls

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        self.last_output = None
        self.last_output = super().schedule(throttle_prefills)
        return self.last_output

    def _preempt_request(self, request: Request, timestamp: float, drop_stale_output: bool = False) -> None:
        super()._preempt_request(request, timestamp, drop_stale_output)
        self.preemptions_total += 1
        live = self.live.get(request.request_id)
        if live is not None:
            live.preempted = True
            self.on_preempted(request.request_id)

    def _handle_blocked_waiting_request(self, request: Request) -> bool:
        ready = super()._handle_blocked_waiting_request(request)
        if ready and request.status == RequestStatus.WAITING and request.num_output_tokens:
            return self._resume_with_grammar(request)
        return bool(ready)

    def _resume_with_grammar(self, request: Request) -> bool:
        """A recovered request whose grammar is compiled: lead the grammar through the tokens made."""
        if not self.accept_grammar(request):
            self.grammar_compile_error_reqs.add(request.request_id)
            return False
        request.status = RequestStatus.PREEMPTED
        return True

    def accept_grammar(self, request: Request) -> bool:
        """Advance the request's grammar by all its output tokens; ``False`` when it rejects them."""
        return bool(self.structured_output_manager.accept_tokens(request, list(request.output_token_ids)))

    # ---- slots of the model runner

    @property
    def free_slots(self) -> int:
        """Requests that could run beside those that run, are frozen or are about to arrive."""
        return self._slots - len(self.running) - self._kept_slots()

    def keep_slots(self) -> None:
        """Let nothing waiting take the slot of a frozen or arriving request."""
        self.max_num_active_reqs = self._slots - self._kept_slots()

    def _kept_slots(self) -> int:
        frozen = [request for request in self.frozen.values() if request.status == RequestStatus.RUNNING]
        return len(frozen) + self.arriving_slots

    # ---- requests that come

    def add_new(self, request: Request, live: LiveRequest) -> None:
        """A request from its prompt."""
        self.live[request.request_id] = live
        self.add_request(request)

    def add_resumed(self, request: Request, live: LiveRequest) -> None:
        """A request with output tokens and no KV: waits, and is computed again in one go."""
        as_resumed(request)
        if request.status == RequestStatus.WAITING:
            request.status = RequestStatus.PREEMPTED
        request.num_computed_tokens = 0
        self.live[request.request_id] = live
        self.add_request(request)

    def add_running(self, request: Request, live: LiveRequest) -> None:
        """A request whose KV is here: it runs in the next step. Its slot must have been kept."""
        as_resumed(request)
        self.live[request.request_id] = live
        self.requests[request.request_id] = request
        if request.lora_request is not None:
            # The number of LoRAs in a batch is limited, and only the way by the queue observes it.
            request.status = RequestStatus.PREEMPTED
            self._enqueue_waiting_request(request)
            return
        request.status = RequestStatus.RUNNING
        self._enter_batch(request)

    def _enter_batch(self, request: Request) -> None:
        self.running.append(request)
        # It was in no step before this one: the runner must add it to its batch again.
        self.prev_step_scheduled_req_ids.discard(request.request_id)
        if request.num_computed_tokens < request.num_tokens - 1:
            request.is_prefill_chunk = True
            self._inflight_prefills.add(request)

    # ---- requests that pause and go

    def freeze(self, request: Request) -> None:
        """Take a running request out of the batch; blocks, slot and state stay."""
        self.running.remove(request)
        self._inflight_prefills.discard(request)
        self.frozen[request.request_id] = request
        self.keep_slots()

    def withdraw(self, request: Request) -> None:
        """Take a waiting request out of its queue; it holds neither blocks nor a slot."""
        self.waiting.remove_request(request)
        self.deferred_waiting.discard(request)
        self.frozen[request.request_id] = request

    def thaw(self, request: Request) -> None:
        """Undo :meth:`freeze` or :meth:`withdraw`."""
        del self.frozen[request.request_id]
        self.keep_slots()
        if request.status == RequestStatus.RUNNING:
            self._enter_batch(request)
        else:
            self._enqueue_waiting_request(request)

    def leave(self, request_ids: list[str]) -> None:
        """Forget requests (running, waiting or frozen) without any output; unknown ids are ignored."""
        self.end(request_ids, RequestStatus.FINISHED_ABORTED)

    def end(self, request_ids: list[str], status: RequestStatus) -> list[Request]:
        """Finish requests from outside; returns those that were still going."""
        ended: list[Request] = self.finish_requests(request_ids, status)
        for request in ended:
            self.live.pop(request.request_id, None)
            self.frozen.pop(request.request_id, None)
        self.keep_slots()
        return ended

    # ---- urgency

    def set_rank(self, request: Request, rank: int) -> None:
        """Change the priority of a running or waiting request from the next step on."""
        queues = [queue for queue in (self.waiting, self.kv_holding_waiting) if request in queue]
        for queue in queues:
            queue.remove_request(request)
        request.priority = rank
        for queue in queues:
            queue.add_request(request)


def as_resumed(request: Request) -> None:
    """Mark a request as one that has been scheduled before: its prefill is not counted (again)."""
    request.num_preemptions = max(1, request.num_preemptions)
    request.prefill_stats = None
