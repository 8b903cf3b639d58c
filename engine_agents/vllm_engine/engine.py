"""VllmEngine: the Engine protocol on stock vLLM 0.32.

Thin: it turns what is asked into operations of the engine's thread. vLLM is
imported when an engine starts, not before, so that configuration errors are cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, cast

from engine_agents.config import AgentConfig
from engine_agents.engines.port import (
    AddOutcome,
    EngineInfo,
    EngineLoad,
    Frozen,
    Pinned,
    Reservation,
    StepOutputs,
)
from engine_agents.messages import Add, RequestInfo
from engine_agents.metric_messages import MetricFamily
from engine_agents.vllm_engine import environment

if TYPE_CHECKING:
    from engine_agents.vllm_engine.serving import Serving


class VllmEngine:
    """One vLLM engine in this process, on a thread of its own."""

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        self._serving: Serving | None = None

    # ---- life

    def start(
        self,
        *,
        on_step: Callable[[Sequence[StepOutputs]], None],
        on_preempted: Callable[[str], None],
    ) -> EngineInfo:
        """Load, warm up, start stepping; blocks until ready.

        Raises ``StartError`` or ``ContractError``, each one sentence for people.
        """
        if self._serving is not None:
            raise RuntimeError("the engine is started already")
        environment.stay_offline_for(self._config.model)
        with environment.loading():
            from engine_agents.vllm_engine.serving import Serving

        self._serving = Serving(self._config, on_step, on_preempted)
        return self._serving.info

    def stop(self) -> None:
        """End the thread and free the memory; requests still here end without output."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.stop()

    @property
    def serving(self) -> Serving:
        """The running engine. Raises ``RuntimeError`` before :meth:`start` and after :meth:`stop`."""
        if self._serving is None:
            raise RuntimeError("the engine is not started")
        return self._serving

    def load(self) -> EngineLoad:
        """Raises ``RuntimeError`` when the engine is not (or no more) running."""
        thread = self.serving.thread
        if thread.ended:
            raise RuntimeError("the engine's thread has ended: start the agent again")
        return thread.load

    def metrics(self) -> list[MetricFamily]:
        """vLLM's own, under its own names."""
        return self.serving.metric_families()

    def requests(self) -> Future[list[RequestInfo]]:
        return self._call(self.serving.request_infos)

    # ---- serving

    def add(self, client: str, request: Add) -> Future[AddOutcome]:
        serving = self.serving
        return self._call(lambda: serving.add(client, request))

    def abort(self, engine_ids: Sequence[str]) -> Future[None]:
        serving, ids = self.serving, list(engine_ids)
        return self._call(lambda: serving.scheduler.leave(ids))

    def set_rank(self, engine_ids: Sequence[str], rank: int, slo_class: str = "") -> Future[None]:
        serving, ids = self.serving, list(engine_ids)
        return self._call(lambda: serving.set_rank(ids, rank, slo_class))

    # ---- migration, source side

    def image(self, engine_id: str) -> Future[bytes]:
        return self._call(lambda: self.serving.departures.image(engine_id))

    def pin(self, engine_id: str, first_block: int) -> Future[Pinned]:
        return self._call(lambda: self.serving.departures.pin(engine_id, first_block))

    def read(self, pinned: Pinned, first: int, count: int, target: memoryview) -> None:
        serving = self.serving
        serving.copying(lambda: serving.departures.read(pinned, first, count, target))

    def unpin(self, pinned: Pinned) -> Future[None]:
        return self._call(lambda: self.serving.departures.unpin(pinned))

    def freeze(self, engine_id: str, first_block: int) -> Future[Frozen]:
        return self._call(lambda: self.serving.departures.freeze(engine_id, first_block))

    def withdraw(self, engine_id: str, first_block: int) -> Future[Frozen]:
        return self._call(lambda: self.serving.departures.withdraw(engine_id, first_block))

    def thaw(self, engine_id: str) -> Future[None]:
        return self._call(lambda: self.serving.departures.thaw(engine_id))

    def release(self, engine_id: str) -> Future[None]:
        return self._call(lambda: self.serving.departures.release(engine_id))

    # ---- migration, destination side

    def hold(self, client: str, new_engine_id: str, image: bytes, total_tokens: int) -> Future[Reservation]:
        serving = self.serving
        return cast("Future[Reservation]", serving.hold(client, new_engine_id, image, total_tokens))

    def extend(self, reservation: Reservation, total_tokens: int) -> Future[None]:
        return self._call(lambda: self.serving.arrivals.extend(reservation, total_tokens))

    def write(
        self, reservation: Reservation, first_block: int, blocks: int, data: bytes | memoryview
    ) -> None:
        serving = self.serving
        serving.copying(lambda: serving.arrivals.write(reservation, first_block, blocks, data))

    def adopt(self, reservation: Reservation, frozen: Frozen) -> Future[None]:
        return self._call(lambda: self.serving.arrivals.adopt(reservation, frozen))

    def drop(self, reservation: Reservation) -> Future[None]:
        return self._call(lambda: self.serving.arrivals.drop(reservation))

    def _call(self, operation: Callable[[], Any]) -> Future[Any]:
        return self.serving.thread.call(operation)
