"""One string that is equal for two engines exactly when one can go on with the other's requests."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vllm.config import VllmConfig

from engine_agents.vllm_engine.kv_blocks import Blocks
from engine_agents.vllm_engine.launch_options import weight_files

SAMPLE_BYTES = 2**16


def compatibility(vllm_config: VllmConfig, store: Blocks, block_size: int, vllm_version: str) -> str:
    """vLLM version, model (by its files), longest request, block size and layout of the KV cache."""
    model = vllm_config.model_config
    parts = {
        "vllm": vllm_version,
        "model": model_fingerprint(str(model.model), model.revision),
        "dtype": str(model.dtype).removeprefix("torch."),
        "max_model_len": str(model.max_model_len),
        "block": str(block_size),
        "kv": hashlib.sha256(store.layout.encode()).hexdigest()[:12],
    }
    return ";".join(f"{name}={value}" for name, value in parts.items())


def model_fingerprint(model: str, revision: str | None) -> str:
    """Of a folder: a digest of its configuration and of samples of its weights; else name and revision.

    Whole weights would take minutes to read; sizes, headers and both ends of each
    file tell models apart that were not made to be confused.
    """
    path = Path(model)
    if not path.is_dir():
        return f"{model}@{revision or 'main'}"
    digest = hashlib.sha256((path / "config.json").read_bytes())
    for file in weight_files(path):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(SAMPLE_BYTES))
            stream.seek(max(0, size - SAMPLE_BYTES))
            digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()[:16]
