"""The one place that sets environment variables for vLLM and torch, and why.

Called when the package is imported, hence before vLLM and torch are: both read
these variables once, while they are imported. A variable that the operator has
set is left as it is.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ALWAYS = {
    # Only what the operator configured leaves the machine.
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Request state is carried in the form of Model Runner V1 (see worker.py).
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # The executor class is given, not its name; on the CPU the name would be rewritten to "mp".
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

WITH_GPU = {
    # Warnings and errors only; an engine logs hundreds of lines otherwise.
    "VLLM_LOGGING_LEVEL": "WARNING",
}

WITHOUT_GPU = {
    # Every start would warn ten times of what is decided here: no compilation, no tcmalloc, our scheduler.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    # Nothing to compile for: it would only stall the first request that asks for logprobs by two seconds.
    "TORCH_COMPILE_DISABLE": "1",
    # "auto" would bind every engine of a machine to core 0.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Several engines share the machine's cores; one thread each is fastest in sum.
    "OMP_NUM_THREADS": "1",
}


def has_nvidia_gpu() -> bool:
    """Whether an NVIDIA device is there, without importing torch."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return False
    return Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/version").exists()


def prepare() -> None:
    """Set what vLLM and torch read at import; idempotent."""
    settings = ALWAYS | (WITH_GPU if has_nvidia_gpu() else WITHOUT_GPU)
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def stay_offline_for(model: str) -> None:
    """A model that lies in a folder needs no hub: do not ask it, and do not wait for it."""
    if Path(model).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")


@contextmanager
def loading() -> Iterator[None]:
    """While vLLM is imported: what its modules are made of stays, and a quarter of the time went to looking
    for garbage among it."""
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked:
            gc.enable()


def quieten() -> None:
    """Silence libraries that log to the root or print banners; ours and errors stay."""
    for name in ("vllm.triton_utils.importing", "transformers", "torch.distributed", "torch._dynamo"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
