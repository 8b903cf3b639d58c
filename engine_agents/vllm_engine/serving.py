"""A started engine: the parts put together, and what needs several of them."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core import EngineCore
from vllm.v1.request import Request

from engine_agents.config import AgentConfig
from engine_agents.engines.port import AddOutcome, EngineInfo, MoveImpossible, StepOutputs
from engine_agents.messages import Add, RequestInfo, engine_id, split_engine_id
from engine_agents.metric_messages import MetricFamily
from engine_agents.vllm_engine import codec, contract, environment, images, warmup
from engine_agents.vllm_engine.admission import (
    InvalidRequestError,
    ModelLimits,
    check_request,
    fits,
    room_tokens,
)
from engine_agents.vllm_engine.arrivals import Arrivals, HeldRequest
from engine_agents.vllm_engine.compatibility import compatibility
from engine_agents.vllm_engine.core import EngineStoppedError, EngineThread
from engine_agents.vllm_engine.departures import Departures, check_movable
from engine_agents.vllm_engine.launch_options import (
    StartError,
    executor_of,
    explain_failure,
    make_vllm_config,
)
from engine_agents.vllm_engine.live import LiveRequest, RequestTimes
from engine_agents.vllm_engine.load import total_blocks
from engine_agents.vllm_engine.metrics import StepMetrics
from engine_agents.vllm_engine.scheduler import MovingScheduler

logger = logging.getLogger(__name__)

T = TypeVar("T")

_alive = 0
_alive_lock = threading.Lock()


class Serving:
    """One loaded engine with its thread. Made by :meth:`VllmEngine.start`."""

    def __init__(
        self,
        config: AgentConfig,
        on_step: Callable[[Sequence[StepOutputs]], None],
        on_preempted: Callable[[str], None],
    ) -> None:
        """Loads and warms up; raises ``StartError`` or ``ContractError``."""
        contract.check()
        environment.quieten()
        self._config = config
        vllm_config = make_vllm_config(config)
        self.thread = EngineThread(
            lambda: EngineCore(vllm_config, executor_of(vllm_config), log_stats=True), warmup.warm_up
        )
        try:
            self.thread.start()
        except Exception as error:
            raise explain_failure(error, config) from error
        _count_alive(+1)
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="vllm-prepare")
        self.version = contract.installed_version()
        self.scheduler: MovingScheduler = self.thread.scheduler
        self._attach_migration()
        self._limits = self._model_limits()
        self.info = self._describe()
        self.metrics = StepMetrics(self.thread.core.vllm_config)
        self.thread.metrics = self.metrics
        self.thread.on_step = on_step
        self.scheduler.on_preempted = unfailing(on_preempted)

    def _attach_migration(self) -> None:
        states = self.thread.states
        pool = self.scheduler.kv_cache_manager.block_pool
        if len(self.scheduler.kv_cache_config.kv_cache_groups) != 1:
            raise StartError("models with several kinds of KV cache (hybrid models) are not supported yet")
        self.store = self.thread.call(lambda: states.block_store(pool.num_gpu_blocks)).result()
        self.departures = Departures(self.scheduler, states, self.store, self.version)
        self.arrivals = Arrivals(self.scheduler, states, self.store)
        self.thread.reserved_blocks = self.arrivals.reserved_blocks

    def _model_limits(self) -> ModelLimits:
        model = self.thread.core.vllm_config.model_config
        return ModelLimits(
            vocabulary=self.thread.states.vocabulary,
            max_model_len=model.max_model_len,
            max_logprobs=model.max_logprobs,
            lora=self.thread.core.vllm_config.lora_config is not None,
            block_size_tokens=self.scheduler.block_size,
            total_blocks=total_blocks(self.scheduler),
        )

    def _describe(self) -> EngineInfo:
        block_size = self.scheduler.block_size
        vllm_config = self.thread.core.vllm_config
        return EngineInfo(
            engine="vllm",
            engine_version=self.version,
            served_model=self._config.served_model,
            max_model_len=self._limits.max_model_len,
            block_size_tokens=block_size,
            total_blocks=self._limits.total_blocks,
            kv_bytes_per_token=self.store.bytes_per_block // block_size,
            compatibility=compatibility(vllm_config, self.store, block_size, self.version),
        )

    def stop(self) -> None:
        """End the thread; the last engine of the process also takes down what vLLM shares."""
        self._preparing.shutdown()
        self.thread.stop()
        if _count_alive(-1) == 0:
            self.thread.core.shutdown()
        else:
            self.thread.core.model_executor.shutdown()
        self.store.close()
        gc.collect()

    # ---- any thread

    def metric_families(self) -> list[MetricFamily]:
        """vLLM's own metrics, as of now."""
        deferred = len(self.scheduler.deferred_waiting)
        return self.metrics.families(self.thread.load, self._limits.total_blocks, deferred)

    def copying(self, operation: Callable[[], None]) -> None:
        """Do what reads or writes blocks: beside the steps where the cache is here, else between two."""
        if self.store.beside_steps:
            operation()
            return
        try:
            self.thread.call(operation).result()
        except EngineStoppedError as error:
            raise MoveImpossible(str(error)) from error

    # ---- on the engine's thread

    def add(self, client: str, add: Add) -> AddOutcome:
        """Take a request, or say why not; nothing about it is remembered then."""
        name = engine_id(add.request_id, add.dispatch)
        if add.only_if_fits and not fits(self.scheduler, add.prompt_tokens + len(add.prior_token_ids)):
            return AddOutcome(False, "no_room", room_tokens(self.scheduler))
        try:
            request = self._decode(name, add.engine_request, add.rank)
            request.client_index = self.thread.clients.number(client)
            check_request(request, add.prior_token_ids, self._limits)
            self._enter(request, add, client)
        except (InvalidRequestError, codec.InvalidEncodingError, ValueError, TypeError) as error:
            return AddOutcome(False, f"invalid: {error}", room_tokens(self.scheduler))
        return AddOutcome(True, "", room_tokens(self.scheduler))

    def _decode(self, name: str, data: bytes, rank: int) -> EngineCoreRequest:
        if name in self.scheduler.requests or name in self.scheduler.live:
            raise InvalidRequestError(f"{name} is here already")
        request = codec.decode_request(data)
        request.request_id = name
        request.priority = rank
        return request

    def _enter(self, request: EngineCoreRequest, add: Add, client: str) -> None:
        made, _ = self.thread.core.preprocess_add_request(request)
        live = LiveRequest(
            engine_id=request.request_id,
            client=client,
            slo_class=add.slo_class,
            tenant=add.tenant,
            rank=add.rank,
            prompt_tokens=made.num_prompt_tokens,
            engine_request=add.engine_request,
            arrived_at_s=made.arrival_time,
            delivered_tokens=len(add.prior_token_ids),
            times=RequestTimes(made.max_tokens),
        )
        if add.prior_token_ids:
            made.append_output_token_ids(list(add.prior_token_ids))
            self.thread.states.create(made, ([],), self.thread.states.generator_after(made))
            self.scheduler.add_resumed(made, live)
        else:
            self.scheduler.add_new(made, live)

    def set_rank(self, engine_ids: Sequence[str], rank: int, slo_class: str = "") -> None:
        """Unknown ids are ignored; an empty class stays as it is."""
        for name in engine_ids:
            request = self.scheduler.requests.get(name)
            if request is not None:
                self.scheduler.set_rank(request, rank)
                live = self.scheduler.live[name]
                live.rank, live.slo_class = rank, slo_class or live.slo_class

    def hold(self, client: str, new_engine_id: str, image: bytes, total_tokens: int) -> Future[HeldRequest]:
        """Any thread. Raises ``MoveImpossible``.

        Making a long request (decoding it, hashing its blocks) takes milliseconds: that is done
        beside the engine's steps, as in vLLM's own input thread, and only the reservation between two.
        """
        held: Future[HeldRequest] = Future()

        def reserve(made: tuple[Request, LiveRequest]) -> HeldRequest:
            made[0].client_index = self.thread.clients.number(client)
            return self.arrivals.hold(new_engine_id, total_tokens, lambda: made)

        def prepare() -> None:
            try:
                made = self._from_image(client, new_engine_id, image)
            except Exception as error:  # belongs to the caller
                held.set_exception(error)
            else:
                reserving = self.thread.call(lambda: reserve(made))
                reserving.add_done_callback(lambda done: _pass_on(done, held))

        self._preparing.submit(prepare)
        return held

    def _from_image(self, client: str, name: str, data: bytes) -> tuple[Request, LiveRequest]:
        try:
            image = images.decode_image(data, self.version)
            request = self._decode(name, image.engine_request, image.rank)
            check_movable(check_request(request, (), self._limits))
            made, _ = self.thread.core.preprocess_add_request(request)
        except (
            images.InvalidImageError,
            InvalidRequestError,
            codec.InvalidEncodingError,
            ValueError,
        ) as error:
            raise MoveImpossible(f"its image cannot be used here: {error}") from error
        live = LiveRequest(
            engine_id=name,
            client=client,
            slo_class=image.slo_class,
            tenant=image.tenant,
            rank=image.rank,
            prompt_tokens=made.num_prompt_tokens,
            engine_request=image.engine_request,
            arrived_at_s=made.arrival_time,
            times=RequestTimes(made.max_tokens),
        )
        return made, live

    def request_infos(self) -> list[RequestInfo]:
        """Every live request, oldest first; for people."""
        infos = [self._request_info(request) for request in self.scheduler.requests.values()]
        return sorted(infos, key=lambda info: (info.arrived_at_s, info.engine_id))

    def _request_info(self, request: Request) -> RequestInfo:
        live = self.scheduler.live[request.request_id]
        return RequestInfo(
            engine_id=request.request_id,
            request_id=split_engine_id(request.request_id)[0],
            slo_class=live.slo_class,
            tenant=live.tenant,
            state=str(self.departures.state_of(request)),
            prompt_tokens=live.prompt_tokens,
            output_tokens=request.num_output_tokens,
            blocks=len(self.scheduler.kv_cache_manager.get_block_ids(request.request_id)[0]),
            arrived_at_s=live.arrived_at_s,
        )


def _pass_on(done: Future[T], waiting: Future[T]) -> None:
    error = done.exception()
    if error is None:
        waiting.set_result(done.result())
    else:
        waiting.set_exception(error)


def unfailing(callback: Callable[[str], None]) -> Callable[[str], None]:
    """The callback, whose failure must not fail the step that it is called from."""

    def call(engine_id: str) -> None:
        try:
            callback(engine_id)
        except Exception:
            logger.exception("The receiver of pre-emptions failed; the engine goes on.")

    return call


def _count_alive(change: int) -> int:
    """Engines of this process; vLLM's distributed state is shared by all of them."""
    global _alive
    with _alive_lock:
        _alive += change
        return _alive
