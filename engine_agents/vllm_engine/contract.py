"""What this package relies on in vLLM, checked before an engine starts.

Everything here is vLLM's inside, not its public interface: a version that moves
one of these names must fail at once, with one sentence, and not by wrong tokens
later. The check costs microseconds.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterable

SUPPORTED_VERSION = "0.32.0"


class ContractError(RuntimeError):
    """The installed vLLM is not the one this package was written for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Need:
    """Names that a class must have, and arguments that its methods must take."""

    owner: type
    attributes: tuple[str, ...] = ()
    methods: tuple[tuple[str, tuple[str, ...]], ...] = ()


def check() -> None:
    """Raise :class:`ContractError` with one sentence if this vLLM cannot be relied on."""
    check_version(installed_version())
    check_serialisation()
    missing = list(missing_names(needs()))
    if missing:
        raise ContractError(f"vLLM {SUPPORTED_VERSION} as installed lacks {', '.join(missing)}: reinstall it")


def installed_version() -> str:
    """The version without the build's own suffix (``0.32.0+cpu`` is ``0.32.0``)."""
    import vllm

    return str(vllm.__version__).partition("+")[0]


def check_version(version: str) -> None:
    """Raise :class:`ContractError` unless ``version`` is the supported one."""
    if version != SUPPORTED_VERSION:
        raise ContractError(
            f"vLLM {version} is installed, but this program needs exactly vLLM {SUPPORTED_VERSION}: "
            "install the locked requirements"
        )


def check_serialisation() -> None:
    """Raise :class:`ContractError` if vLLM is told to unpickle what comes over a wire."""
    if os.environ.get("VLLM_ALLOW_INSECURE_SERIALIZATION", "0") not in ("", "0"):
        raise ContractError("unset VLLM_ALLOW_INSECURE_SERIALIZATION: it would let a message run code here")


def missing_names(required: Iterable[Need]) -> Iterable[str]:
    """``Class.name`` or ``Class.method(argument)`` of everything that is not there."""
    for need in required:
        for name in need.attributes:
            if name not in _declared_names(need.owner):
                yield f"{need.owner.__name__}.{name}"
        for name, arguments in need.methods:
            yield from _missing_arguments(need.owner, name, arguments)


def _declared_names(owner: type) -> set[str]:
    names = set(dir(owner)) | set(getattr(owner, "__struct_fields__", ()))
    if dataclasses.is_dataclass(owner):
        names |= {field.name for field in dataclasses.fields(owner)}
    constructor = inspect.unwrap(getattr(owner, "__init__"))  # noqa: B009
    code = getattr(constructor, "__code__", None)
    return names if code is None else names | set(code.co_names)


def _missing_arguments(owner: type, name: str, arguments: tuple[str, ...]) -> Iterable[str]:
    method = getattr(owner, name, None)
    if method is None:
        yield f"{owner.__name__}.{name}()"
        return
    parameters = inspect.signature(method).parameters
    for argument in arguments:
        if argument not in parameters:
            yield f"{owner.__name__}.{name}({argument})"


def needs() -> tuple[Need, ...]:
    """The list itself; imported late, so that the version is judged first."""
    from vllm.v1.core.block_pool import BlockPool
    from vllm.v1.core.kv_cache_manager import KVCacheManager
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.core.single_type_kv_cache_manager import SingleTypeKVCacheManager
    from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest
    from vllm.v1.engine.core import EngineCore
    from vllm.v1.request import Request
    from vllm.v1.structured_output import StructuredOutputManager
    from vllm.v1.worker.gpu_input_batch import CachedRequestState, InputBatch
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    return (
        Need(
            EngineCore,
            ("scheduler", "model_executor", "structured_output_manager", "step_fn"),
            (("preprocess_add_request", ("request",)), ("step", ()), ("post_step", ("model_executed",))),
        ),
        Need(
            Scheduler,
            (
                "requests",
                "running",
                "waiting",
                "kv_holding_waiting",
                "deferred_waiting",
                "finished_req_ids",
                "prev_step_scheduled_req_ids",
                "max_num_running_reqs",
                "max_num_active_reqs",
                "kv_cache_manager",
                "structured_output_manager",
                "_inflight_prefills",
                "max_model_len",
                "grammar_compile_error_reqs",
                "kv_cache_config",
                "block_size",
            ),
            (
                ("schedule", ("throttle_prefills",)),
                ("add_request", ("request",)),
                ("finish_requests", ("request_ids", "finished_status")),
                ("_preempt_request", ("request", "timestamp", "drop_stale_output")),
                ("_enqueue_waiting_request", ("request",)),
                ("_handle_blocked_waiting_request", ("request",)),
                ("has_requests", ()),
            ),
        ),
        Need(
            KVCacheManager,
            ("block_pool", "coordinator"),
            (
                ("allocate_slots", ("request", "num_new_tokens", "delay_cache_blocks")),
                ("cache_blocks", ("request", "num_computed_tokens")),
                ("get_blocks", ("request_id",)),
                ("get_block_ids", ("request_id",)),
                ("free", ("request",)),
            ),
        ),
        Need(SingleTypeKVCacheManager, ("req_to_blocks",)),
        Need(
            BlockPool,
            ("num_gpu_blocks",),
            (("touch", ("blocks",)), ("free_blocks", ("ordered_blocks",)), ("get_num_free_blocks", ())),
        ),
        Need(
            Request,
            (
                "status",
                "priority",
                "num_computed_tokens",
                "num_preemptions",
                "prefill_stats",
                "num_tokens",
                "is_prefill_chunk",
                "structured_output_request",
                "sampling_params",
                "arrival_time",
                "client_index",
                "num_prompt_tokens",
                "num_in_flight_tokens",
                "block_hashes",
                "_output_token_ids",
                "_all_token_ids",
            ),
            (("append_output_token_ids", ("token_ids",)),),
        ),
        Need(StructuredOutputManager, (), (("accept_tokens", ("request", "new_token_ids")),)),
        Need(
            CachedRequestState,
            ("generator", "output_token_ids", "block_ids", "num_computed_tokens", "sampling_params"),
        ),
        Need(InputBatch, ("generators", "req_id_to_index", "vocab_size"), (("remove_request", ("req_id",)),)),
        Need(
            GPUModelRunner,
            (
                "requests",
                "input_batch",
                "kv_caches",
                "discard_request_mask",
                "execute_model_state",
                "late_interaction_runner",
                "num_prompt_logprobs",
                "uses_mrope",
            ),
            (
                ("_init_mrope_positions", ("req_state",)),
                ("_sample", ("logits", "spec_decode_metadata")),
                ("_bookkeeping_sync", ("scheduler_output", "sampler_output")),
            ),
        ),
        Need(
            EngineCoreRequest,
            ("request_id", "prompt_token_ids", "sampling_params", "client_index", "priority"),
        ),
        Need(EngineCoreOutput, ("request_id", "new_token_ids", "finish_reason", "events", "prefill_stats")),
        Need(EngineCoreOutputs, ("engine_index", "outputs", "scheduler_stats")),
    )
