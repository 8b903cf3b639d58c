"""vLLM's own API server process, with a stub in the place of its engine core.

Everything of vLLM's API process is vLLM's: FastAPI app, ``AsyncLLM`` with its output
task, ``AsyncMPClient`` with its sockets. The stub speaks the engine core's side of these
sockets and makes a token per running request and step, at the pace of the simulated engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import msgspec
import zmq

from engine_agents.engines.paced_wire import (
    FINISHED_LENGTH,
    PacedOutput,
    PacedOutputs,
    PacedRequest,
)

ADD = b"\x00"
ABORT = b"\x01"
BY_TYPE: dict[str, Any] = {"str": "", "bool": False, "<class 'str'>": "", "<class 'bool'>": False}
ENGINE_IDENTITY = (0).to_bytes(2, "little")


def run_stub(input_address: str, output_address: str, step_s: float) -> None:
    """The engine core's side, until killed."""
    context = zmq.Context()
    inbox, outbox = context.socket(zmq.DEALER), context.socket(zmq.PUSH)
    inbox.setsockopt(zmq.IDENTITY, ENGINE_IDENTITY)
    inbox.connect(input_address)
    outbox.connect(output_address)
    inbox.send(ready())
    decoder = msgspec.msgpack.Decoder(PacedRequest)
    encode = msgspec.msgpack.Encoder().encode
    left: dict[str, int] = {}
    while True:
        while inbox.poll(0 if left else None):
            kind, *frames = inbox.recv_multipart()
            if kind == ADD:
                request = decoder.decode(frames[0])
                assert request.sampling_params is not None
                left[request.request_id] = request.sampling_params.max_tokens or 1
            elif kind == ABORT:
                for name in msgspec.msgpack.decode(frames[0]):
                    left.pop(name, None)
        time.sleep(step_s)
        outbox.send(encode(PacedOutputs(0, list(step(left)), timestamp=time.monotonic())))


def step(left: dict[str, int]) -> Any:
    for name in list(left):
        left[name] -= 1
        ends = left[name] <= 0
        if ends:
            del left[name]
        yield PacedOutput(name, [100], finish_reason=FINISHED_LENGTH if ends else None)


def ready() -> bytes:
    """Whatever the client wants to know, of a small model."""
    from vllm.v1.engine import EngineCoreReadyResponse
    from vllm.version import __version__

    known = {"max_model_len": 2048, "dtype": "float32", "vllm_version": str(__version__), "block_size": 128}
    fields = {
        field.name: known.get(field.name, BY_TYPE.get(str(field.type), 1))
        for field in dataclasses.fields(EngineCoreReadyResponse)
        if field.default is dataclasses.MISSING or field.name in known
    }
    fields["dp_stats_address"] = None
    return msgspec.msgpack.encode(fields)


async def vllm_app(model: str, served_model: str, input_address: str, output_address: str) -> Any:
    """vLLM's app over its own client; what a request costs here is what ``vllm serve`` pays."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.utils.gc_utils import freeze_gc_heap
    from vllm.v1.engine.async_llm import AsyncLLM

    from engine_agents.vllm_engine import frontend
    from engine_agents.vllm_engine.frontend_port import FrontHalfConfig

    config = FrontHalfConfig(model, served_model, {"max_model_len": 2048, "dtype": "float32"})
    vllm_config = frontend._vllm_config(config)
    llm = await asyncio.to_thread(
        AsyncLLM,
        vllm_config,
        None,
        False,
        log_requests=False,
        client_addresses={"input_address": input_address, "output_address": output_address},
    )
    llm._supported_tasks = frontend.TASKS
    args = frontend._serve_args(config)
    app = build_app(args, frontend.TASKS, vllm_config.model_config)
    app.state.server = SimpleNamespace(should_exit=False)
    await init_app_state(llm, app.state, args, frontend.TASKS)
    freeze_gc_heap()
    return app
