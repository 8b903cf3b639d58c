"""vLLM's front half for the gateway: its OpenAI serving layer over engines that live elsewhere.

vLLM's FastAPI app, input processor and output processor run unchanged; in the
place of the engine-core client stands one that hands requests to an
:class:`EngineClientPort`. Outputs are pushed in by the gateway, without vLLM's
own pulling task: one queue and one task switch less per step.

Source: vLLM 0.32 ``entrypoints.launchers.app``, ``v1.engine.async_llm``,
``v1.engine.core_client``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from operator import length_hint
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError
from vllm.config import DeviceConfig, LoggingConfig, SchedulerConfig, VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.exceptions import GracefulHTTPError
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.utils.gc_utils import freeze_gc_heap
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import EngineCoreClient
from vllm.version import __version__ as vllm_version

from engine_agents.vllm_engine import codec
from engine_agents.vllm_engine.frontend_port import (
    AdmissionRefusedError,
    AsgiApp,
    EngineClientPort,
    FrontHalfConfig,
    FrontHalfError,
    NewRequest,
)

logger = logging.getLogger(__name__)
TASKS = ("generate",)
ITEMS_AT_ONCE = 16


class PortClient:
    """Stands where vLLM expects the client of its engine core."""

    engine_ranks_managed = (0,)

    def __init__(self, port: EngineClientPort) -> None:
        self._port = port
        self.resources = SimpleNamespace(engine_dead=False)

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        self._port.add(_new_request(request))

    async def abort_requests_async(self, request_ids: Sequence[str]) -> None:
        if request_ids:
            self._port.abort(request_ids)

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        return TASKS

    async def reset_mm_cache_async(self) -> None:
        """Nothing to do: text models only."""

    def shutdown(self, timeout: float | None = None) -> None:
        """The gateway owns the links; it closes them itself."""


class PushedLLM(AsyncLLM):  # type: ignore[misc]
    """vLLM's ``AsyncLLM`` whose outputs are pushed in, and whose door is the gateway's."""

    port: EngineClientPort

    def _run_output_handler(self) -> None:
        """No pulling task: see :meth:`VllmFrontHalf.deliver`."""

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        try:
            self.port.check_admission(n)
        except AdmissionRefusedError as refused:
            raise GracefulHTTPError(str(refused), HTTPStatus(refused.status)) from None

    def __del__(self) -> None:
        """Closing is explicit; vLLM's own finaliser would also stop its Prometheus registry."""


class VllmFrontHalf:
    """The one object that the gateway holds; build it with :func:`build_front_half`."""

    engine_version = str(vllm_version)

    def __init__(self, app: AsgiApp, llm: PushedLLM, port: EngineClientPort) -> None:
        self.app = app
        self.max_model_len = int(llm.model_config.max_model_len)
        self._llm = llm
        self._processor = llm.output_processor
        self._port = port

    def decode(self, payload: bytes) -> Sequence[EngineCoreOutput]:
        outputs: Sequence[EngineCoreOutput] = codec.decode_outputs(payload).outputs
        return outputs

    def deliver(self, outputs: Sequence[EngineCoreOutput]) -> None:
        """Detokenise, look for stop strings, pass on. An output that cannot be processed fails alone."""
        left = iter(outputs)
        while length_hint(left):
            try:
                processed = self._processor.process_outputs(left, time.monotonic(), None)
            except Exception:
                culprit = outputs[len(outputs) - length_hint(left) - 1].request_id
                logger.exception("an output of request %s could not be processed", culprit)
                self.fail(culprit, 500, "an output of the engine could not be processed")
                continue
            if processed.reqs_to_abort:
                self._port.stopped(processed.reqs_to_abort)

    def fail(self, request_id: str, status: int, message: str) -> None:
        state = self._processor.request_states.get(request_id)
        if state is None:
            return
        family = request_id if state.parent_req is None else state.parent_req.request_id
        if state.queue is not None:
            state.queue.put(GracefulHTTPError(message, HTTPStatus(status)))
        self._port.abort(self._processor.abort_requests([family], internal=True))

    def trim(self, output: EngineCoreOutput, skip: int) -> EngineCoreOutput:
        if skip:
            output.new_token_ids = output.new_token_ids[skip:]
            if output.new_logprobs is not None:
                rows = len(output.new_logprobs.logprob_token_ids)
                output.new_logprobs = output.new_logprobs.slice_request(skip, rows - skip)
        return output

    def tokens_only(self, request_id: str, token_ids: list[int]) -> EngineCoreOutput:
        return EngineCoreOutput(request_id=request_id, new_token_ids=token_ids)

    def continued(self, output: EngineCoreOutput) -> EngineCoreOutput:
        output.events = None
        output.prefill_stats = None
        output.new_prompt_logprobs_tensors = None
        output.prompt_token_id_logprobs = None
        return output

    async def input_problem(self, items: Sequence[Any]) -> str:
        """Why these input items of ``/v1/responses`` cannot be read; empty when they can.

        vLLM tries each of some thirty forms on an item that is none of them, 7 ms an item, and
        all of a request at once: thousands of bad ones would hold up everybody for many seconds.
        Here the first few that are bad end it, and others get a turn in between.
        """
        for first in range(0, len(items), ITEMS_AT_ONCE):
            try:
                ResponsesRequest(input=list(items[first : first + ITEMS_AT_ONCE]))
            except ValidationError as error:
                return f"item {first + _first_position(error)} has no known form"
            await asyncio.sleep(0)
        return ""

    def close(self) -> None:
        self._llm.renderer.shutdown()


def _first_position(error: ValidationError) -> int:
    """Of the first item that is wrong, within those that were looked at."""
    places = (each["loc"] for each in error.errors(include_url=False, include_input=False))
    found = (next((part for part in place if isinstance(part, int)), None) for place in places)
    return min((position for position in found if position is not None), default=0)


async def build_front_half(config: FrontHalfConfig, port: EngineClientPort) -> VllmFrontHalf:
    """vLLM's app over ``port``; raises :class:`FrontHalfError` where the model cannot be read."""
    with _logging_kept():
        return await _build(config, port)


@contextlib.contextmanager
def _logging_kept() -> Iterator[None]:
    """Quiet while building; and vLLM's set-up leaves the root logger at ERROR, which is not its to decide."""
    root, own = logging.getLogger(), logging.getLogger("vllm")
    level = root.level
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        own.setLevel(logging.WARNING)


async def _build(config: FrontHalfConfig, port: EngineClientPort) -> VllmFrontHalf:
    args = _serve_args(config)
    vllm_config = _vllm_config(config)
    llm = _construct_llm(vllm_config, port)
    app = build_app(args, TASKS, vllm_config.model_config)
    # vLLM's error handlers look for the server; ours stops by signal only.
    app.state.server = SimpleNamespace(should_exit=False)
    await init_app_state(llm, app.state, args, TASKS)
    freeze_gc_heap()
    return VllmFrontHalf(app, llm, port)


def _construct_llm(vllm_config: VllmConfig, port: EngineClientPort) -> PushedLLM:
    """``AsyncLLM`` makes its client by a static factory: ours takes its place for that moment."""
    factory: Callable[..., Any] = EngineCoreClient.make_async_mp_client
    EngineCoreClient.make_async_mp_client = staticmethod(lambda *_, **__: PortClient(port))
    try:
        llm = PushedLLM(vllm_config, executor_class=None, log_stats=False, log_requests=False)
    finally:
        EngineCoreClient.make_async_mp_client = staticmethod(factory)
    llm.port = port
    return llm


def _vllm_config(config: FrontHalfConfig) -> VllmConfig:
    front = set(_front_arguments(config.engine_args))
    shared = {name: value for name, value in config.engine_args.items() if name not in front}
    arguments = {"model": config.model, "served_model_name": [config.served_model], **shared}
    try:
        engine_args = AsyncEngineArgs(**arguments)
        model_config = engine_args.create_model_config()
        scheduler = SchedulerConfig(
            policy="priority",
            max_model_len=model_config.max_model_len,
            is_encoder_decoder=model_config.is_encoder_decoder,
        )
        return VllmConfig(
            model_config=model_config,
            device_config=DeviceConfig("cpu"),
            scheduler_config=scheduler,
            # The process has its own logging; vLLM's set-up would take its handlers away.
            logging_config=LoggingConfig(configure_logging=False),
        )
    except (OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FrontHalfError(f"model {config.model!r} cannot be read: {reason}") from error


def _serve_args(config: FrontHalfConfig) -> Namespace:
    """The arguments of ``vllm serve``; no documentation pages, no request logs, no CORS."""
    parser = make_arg_parser(FlexibleArgumentParser())
    args: Namespace = parser.parse_args(["--model", config.model])
    args.served_model_name = [config.served_model]
    args.disable_fastapi_docs = True
    args.disable_log_stats = True
    args.enable_log_requests = False
    args.log_error_stack = False
    args.api_key = None
    args.allowed_origins = []
    # The gateway looks after silent streams itself: vLLM's way costs a task per chunk.
    args.sse_keep_alive_interval = 0
    for name in _front_arguments(config.engine_args):
        setattr(args, name, config.engine_args[name])
    return args


def _front_arguments(names: Iterable[str]) -> list[str]:
    """Arguments of the serving layer that an operator gives along with the engine's."""
    known = {"chat_template", "tool_call_parser", "enable_auto_tool_choice", "chat_template_content_format"}
    return [name for name in names if name in known]


def _new_request(request: EngineCoreRequest) -> NewRequest:
    params = request.sampling_params
    plain = params is not None and params.logprobs is None and params.prompt_logprobs is None
    max_tokens = params.max_tokens if params is not None and params.max_tokens is not None else 1
    return NewRequest(
        request_id=request.request_id,
        engine_request=codec.encode_request(request),
        prompt_tokens=len(request.prompt_token_ids or ()),
        max_tokens=max_tokens,
        gap_closable=plain,
    )
