"""vLLM's EngineCore on a thread of our own: operations between steps, outputs after each.

The thread builds the core (a CUDA context belongs to the thread that made it),
then repeats: do everything that was asked for, make one step, hand out what came of
it. The inbox is emptied right before ``schedule()``, so an adoption that arrives
while a step runs takes part in the next one. An idle engine sleeps on the inbox.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.engine.core import EngineCore

from engine_agents import failpoints
from engine_agents.engines.port import EngineLoad, StepOutputs
from engine_agents.vllm_engine import codec
from engine_agents.vllm_engine.clients import Clients
from engine_agents.vllm_engine.failed_step import end_culprits
from engine_agents.vllm_engine.load import StepCounters, measure
from engine_agents.vllm_engine.metrics import StepMetrics
from engine_agents.vllm_engine.ranks import request_states
from engine_agents.vllm_engine.scheduler import MovingScheduler
from engine_agents.vllm_engine.worker import RequestStates

logger = logging.getLogger(__name__)

T = TypeVar("T")

STALLED_PAUSE_S = 0.002
"""Pause after a step in which nothing could be scheduled (all wait for blocks or a grammar)."""


in_turn = threading.Lock()
"""Held while vLLM computes: its forward context and the CPU kernels' scratch memory belong to the
process. An agent has one engine per process and never waits here."""


class EngineStoppedError(RuntimeError):
    """The engine was stopped before (or while) this was asked of it."""


class EngineThread:
    """Owns the core; every other thread asks by :meth:`call`."""

    def __init__(self, build: Callable[[], EngineCore], prepare: Callable[[EngineThread], None]) -> None:
        """``build`` makes the core, ``prepare`` gets it ready to serve; both run on the thread."""
        self._build = build
        self._prepare = prepare
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._stopping = False
        self._closing = threading.Lock()
        self._closed = False
        self._failures_in_a_row = 0
        self._thread = threading.Thread(target=self._run, name="vllm-engine", daemon=True)
        self.on_step: Callable[[Sequence[StepOutputs]], None] = discard_outputs
        self.metrics: StepMetrics | None = None
        """From the end of warm-up on."""
        self.clients = Clients()
        self.counters = StepCounters()
        self.reserved_blocks: Callable[[], int] = int
        self.core: EngineCore
        self.scheduler: MovingScheduler
        self.states: RequestStates
        self.load: EngineLoad

    # ---- any thread

    def start(self) -> None:
        """Build and prepare; blocks until ready. Raises what building raised."""
        self._thread.start()
        self._ready.result()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the present step; what is asked from now on fails with :class:`EngineStoppedError`."""
        self._inbox.put(None)
        self._thread.join(timeout_s)

    def call(self, operation: Callable[[], T]) -> Future[T]:
        """Have ``operation`` done between two steps; wakes an idle engine."""
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                future.set_exception(EngineStoppedError("the engine is stopped"))
            else:
                self._inbox.put(lambda: self._perform(operation, future))
        return future

    @property
    def ended(self) -> bool:
        """Whether it has been stopped, or has ended by an error."""
        return self._closed

    # ---- the engine's thread

    def _run(self) -> None:
        try:
            with in_turn:
                self.core = self._build()
            self.scheduler = self.core.scheduler
            blocks = self.scheduler.kv_cache_manager.block_pool.num_gpu_blocks
            self.states = request_states(self.core.model_executor, blocks)
            self._prepare(self)
            self.refresh_load()
        except BaseException as error:  # reported to whoever waits in start()
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        try:
            self._serve()
        except Exception:
            logger.critical("The engine's thread ended by an error.", exc_info=True)
        finally:
            self._refuse_the_rest()

    def _serve(self) -> None:
        while not self._stopping:
            self._drain_inbox()
            if self.scheduler.has_requests() and not self._stopping:
                self.step()

    def _drain_inbox(self) -> None:
        """Do all that was asked; sleep for it when there is nothing to step for."""
        wait = not self.scheduler.has_requests()
        asked = False
        while not self._stopping:
            try:
                operation = self._inbox.get(block=wait)
            except queue.Empty:
                break
            if operation is None:
                self._stopping = True
            else:
                operation()
            asked = True
            wait = False
        if asked:
            self.refresh_load()

    def _perform(self, operation: Callable[[], T], future: Future[T]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if self._stopping:
            future.set_exception(EngineStoppedError("the engine is stopped"))
            return
        try:
            result = operation()
        except Exception as error:  # belongs to the caller, must not end the engine
            future.set_exception(error)
        else:
            # Callbacks of the future may read the load: let it be that of after the operation.
            future.set_result(result)

    def _refuse_the_rest(self) -> None:
        self._stopping = True
        with self._closing:
            self._closed = True
        while not self._inbox.empty():
            operation = self._inbox.get_nowait()
            if operation is not None:
                operation()

    def step(self) -> None:
        """One engine step, its outputs and its share of the totals."""
        began = time.perf_counter()
        try:
            failpoints.pass_by("engine.step")
            with in_turn:
                outputs, executed = self.core.step_fn()
                self.core.post_step(executed)
            self._failures_in_a_row = 0
        except Exception as error:  # of whatever kind: the engine serves others too
            self._failures_in_a_row += 1
            logger.exception("A step failed; the requests that were new in it end with an error.")
            outputs = end_culprits(self.scheduler, self.states, error, self._failures_in_a_row)
            executed = True
        if executed:
            self.counters.steps += 1
            self.counters.seconds += time.perf_counter() - began
        self._hand_out(outputs or {})
        self.refresh_load()
        if not executed and self.scheduler.has_requests() and self._inbox.empty():
            time.sleep(STALLED_PAUSE_S)

    def _hand_out(self, outputs: dict[int, EngineCoreOutputs]) -> None:
        self._measure(outputs)
        steps = [
            self._for_client(index, outs)
            for index, outs in outputs.items()
            # vLLM attaches its statistics to empty outputs where a step made none.
            if (outs.outputs or outs.finished_requests) and self.clients.name(index) is not None
        ]
        if steps:
            try:
                self.on_step(steps)
            except Exception:
                logger.exception("The receiver of step outputs failed; the engine goes on.")

    def _measure(self, outputs: dict[int, EngineCoreOutputs]) -> None:
        if self.metrics is None:
            return
        try:
            self.metrics.step(outputs, self.scheduler.live)
        except Exception:
            logger.exception("The engine's metrics failed; it goes on without them.")
            self.metrics = None

    def _for_client(self, index: int, outputs: EngineCoreOutputs) -> StepOutputs:
        starts = []
        finished = []
        for output in outputs.outputs:
            live = self.scheduler.live[output.request_id]
            starts.append(live.delivered_tokens)
            live.delivered_tokens += len(output.new_token_ids)
            self.counters.tokens += len(output.new_token_ids)
            if output.finish_reason is not None:
                finished.append(output.request_id)
                del self.scheduler.live[output.request_id]
        return StepOutputs(
            client=self.clients.name(index) or "",
            engine_ids=tuple(output.request_id for output in outputs.outputs),
            starts=tuple(starts),
            payload=codec.encode_outputs(outputs),
            finished=tuple(finished),
        )

    def refresh_load(self) -> None:
        """Publish the load as of now; other threads read the whole object."""
        self.load = measure(self.scheduler, self.reserved_blocks(), self.counters)


def discard_outputs(steps: Sequence[StepOutputs]) -> None:
    """Where outputs go during warm-up."""
