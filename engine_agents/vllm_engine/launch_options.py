"""From an AgentConfig to vLLM's configuration: defaults, what we insist on, errors for people."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any, cast

import psutil
from vllm.config import VllmConfig
from vllm.engine.arg_utils import EngineArgs
from vllm.v1.executor.abstract import Executor
from vllm.v1.executor.multiproc_executor import MultiprocExecutor
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from engine_agents.config import AgentConfig
from engine_agents.vllm_engine import environment
from engine_agents.vllm_engine.ranks import EXTENSION as RANK_PART
from engine_agents.vllm_engine.scheduler import MovingScheduler
from engine_agents.vllm_engine.worker import CPU_WORKER

logger = logging.getLogger(__name__)

WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


class StartError(RuntimeError):
    """The engine cannot start; ``str(self)`` is one sentence that says what to do."""


def make_vllm_config(config: AgentConfig) -> VllmConfig:
    """Raises :class:`StartError` for what can be known to be wrong before loading."""
    check_model(config.model)
    check_memory(config, psutil.virtual_memory().available)
    on_gpu = environment.has_nvidia_gpu()
    arguments = engine_arguments(config, on_gpu)
    try:
        vllm_config = EngineArgs(**arguments).create_engine_config()
    except (ValueError, OSError, TypeError) as error:
        raise StartError(f"vLLM does not take this configuration: {first_sentence(error)}") from error
    parallel = vllm_config.parallel_config
    if parallel.world_size > parallel.tensor_parallel_size:
        raise StartError("pipeline parallel engines are not supported yet: set pipeline_parallel_size to 1")
    if vllm_config.speculative_config is not None:
        raise StartError("speculative decoding is not supported yet: leave speculative_config out")
    return vllm_config


def executor_of(vllm_config: VllmConfig) -> type[Executor]:
    """The model in this process, or in one process per rank."""
    parallel = vllm_config.parallel_config
    if parallel.world_size > 1 or parallel.distributed_executor_backend == "mp":
        return cast("type[Executor]", MultiprocExecutor)
    return cast("type[Executor]", UniProcExecutor)


def engine_arguments(config: AgentConfig, on_gpu: bool) -> dict[str, Any]:
    """Fields of vLLM's ``EngineArgs``: defaults, then the operator's, then what we insist on.

    Raises :class:`StartError` for a field that vLLM does not know or that is ours to set.
    """
    known = {field.name for field in dataclasses.fields(EngineArgs)}
    insisted = _insisted(config, on_gpu)
    for name in config.engine_args:
        if name not in known:
            raise StartError(f"engine_args: vLLM has no argument {name!r}")
        if name in insisted and config.engine_args[name] != insisted[name]:
            raise StartError(f"engine_args: {name} is set by the agent and must be left out")
    arguments = {**_defaults(on_gpu), **config.engine_args, **insisted}
    if not on_gpu and arguments["dtype"] not in ("float32", "float"):
        logger.warning("dtype %s is not safe on this CPU: float32 is used", arguments["dtype"])
        arguments["dtype"] = "float32"
    return arguments


def _defaults(on_gpu: bool) -> dict[str, Any]:
    defaults: dict[str, Any] = {"dtype": "auto", "max_num_seqs": 64, "seed": 0, "use_tqdm_on_load": False}
    if not on_gpu:
        # Small prefill chunks keep the others' token rate; nothing is gained by capturing graphs.
        # Small blocks (the kernels want multiples of 32) keep the last stage of a move short.
        defaults |= {
            "dtype": "float32",
            "block_size": 32,
            "enforce_eager": True,
            "max_num_batched_tokens": 512,
            "max_num_seqs": 32,
        }
    return defaults


def _insisted(config: AgentConfig, on_gpu: bool) -> dict[str, Any]:
    insisted: dict[str, Any] = {
        "model": config.model,
        "served_model_name": config.served_model,
        "kv_cache_memory_bytes": config.kv_memory_bytes,
        "scheduler_cls": MovingScheduler,
        "scheduling_policy": "priority",
        # Between two steps every token that was scheduled has been computed: moves rely on it.
        "async_scheduling": False,
        "disable_log_stats": True,
    }
    if _asks_for_processes(config.engine_args):
        # What moves ask of a rank in a process of its own.
        insisted |= {"worker_extension_cls": RANK_PART, "distributed_executor_backend": "mp"}
    if not on_gpu:
        insisted["worker_cls"] = CPU_WORKER
    return insisted


def _asks_for_processes(engine_args: dict[str, Any]) -> bool:
    return engine_args.get("distributed_executor_backend") == "mp" or (
        int(engine_args.get("tensor_parallel_size", 1)) > 1
    )


def check_model(model: str) -> None:
    """Raise :class:`StartError` when ``model`` is a folder's path and no model is there."""
    path = Path(model)
    if not model or not path.is_dir():
        looks_like_path = model.startswith(("/", ".", "~")) or model.count("/") > 1 or not model
        if looks_like_path or path.exists():
            raise StartError(
                f"model folder {model!r} does not exist: give a folder with a config.json, or a hub name"
            )
        return
    if not (path / "config.json").is_file():
        raise StartError(f"model folder {model!r} holds no config.json: it is not a model")
    if not weight_files(path):
        raise StartError(f"model folder {model!r} holds no weights ({', '.join(WEIGHT_FILES)})")


def weight_files(path: Path) -> list[Path]:
    """The files with the model's weights, in order of name."""
    return sorted(file for pattern in WEIGHT_FILES for file in path.glob(pattern))


def check_memory(config: AgentConfig, available_bytes: int) -> None:
    """Raise :class:`StartError` when the KV cache is no cache or does not fit into main memory (CPU only)."""
    if config.kv_memory_bytes < 2**20:
        raise StartError(f"kv_memory_bytes is {config.kv_memory_bytes}: must be at least 1048576 (1 MiB)")
    if environment.has_nvidia_gpu():
        return
    path = Path(config.model)
    weights = sum(file.stat().st_size for file in weight_files(path)) if path.is_dir() else 0
    needed = config.kv_memory_bytes + weights
    if needed > available_bytes:
        raise StartError(
            f"the model and its KV cache need {mebibytes(needed)} MiB of memory, but only "
            f"{mebibytes(available_bytes)} MiB are free: lower kv_memory_bytes or stop other programs"
        )


def explain_failure(error: BaseException, config: AgentConfig) -> StartError:
    """One sentence for whatever vLLM raised while it loaded."""
    if isinstance(error, StartError):
        return error
    text = str(error)
    if "KV cache" in text or "max seq len" in text:
        return StartError(
            f"{mebibytes(config.kv_memory_bytes)} MiB of KV cache are too little for one request of the "
            f"longest length: raise kv_memory_bytes or lower max_model_len in engine_args "
            f"({first_sentence(error)})"
        )
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return StartError(
            f"not enough memory to load {config.model}: lower kv_memory_bytes or use a smaller model"
        )
    return StartError(f"vLLM could not load {config.model}: {type(error).__name__}: {first_sentence(error)}")


def first_sentence(error: BaseException) -> str:
    """The beginning of an error's text, in one line."""
    line = " ".join(str(error).split())
    return line.split(". ")[0][:300]


def mebibytes(count: int) -> int:
    return -(-count // 2**20)
