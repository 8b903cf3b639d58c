"""``python -m tests.gateway.conformance.vllm_serve PORT MODEL``: vLLM's own server, engine and all.

The CPU wheel's ``vllm`` command fails (it looks for metadata of a package named ``vllm``), so
its entry point is called directly. Nothing of ours is imported but the environment that any
engine on such a machine needs.
"""

from __future__ import annotations

import gc
import os
import sys

from tests.gateway.conformance.probes import MODEL

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # One import of torch for API server, engine and worker.
    "VLLM_WORKER_MULTIPROC_METHOD": "fork",
}
MAX_MODEL_LEN = 2048
KV_BYTES = 48 * 2**20


def main(port: str, model: str) -> None:
    os.environ.update(ENVIRONMENT)
    gc.disable()  # importing is a quarter faster, and what it makes stays
    from vllm.entrypoints.launchers.api_server import entry

    gc.enable()
    sys.argv = [
        "vllm serve",
        *("--model", model, "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", port),
        *("--max-model-len", str(MAX_MODEL_LEN), "--kv-cache-memory-bytes", str(KV_BYTES)),
        *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "32"),
        *("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--disable-uvicorn-access-log"),
    ]
    entry.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
