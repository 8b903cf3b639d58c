"""A model that is made on the spot, offline: random weights, a real tokenizer, a chat template.

It answers nonsense, but it is a true Llama to the engine: attention, rotary
positions, a KV cache of 8 KiB per token in float32. The same seed gives the
same bytes on every machine, so that all engines of a fleet, and the gateway,
agree on it. ``python -m engine_agents.vllm_engine.tiny_model PATH`` makes one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

RECIPE = "2"
"""Changes whenever the same seed would give another model; an older folder is made anew."""

LAYERS = 4
HIDDEN = 256
HEADS = 4
HEAD_DIM = 64
FEED_FORWARD = 512
CONTEXT_TOKENS = 4096
MAX_VOCABULARY = 1024
SPECIAL_TOKENS = ("<|endoftext|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] if message['role'] in ['system', 'user', 'assistant', 'tool'] else 'user' }}|>"
    "{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

Weights = dict[str, NDArray[np.float32]]


def make_tiny_model(path: Path | str, seed: int = 0) -> Path:
    """Write model and tokenizer into ``path`` unless they are there already; returns the path.

    Two processes may do so at once: each writes a folder of its own and the
    first to finish puts it in place. Raises ``FileExistsError`` when ``path``
    holds something else.
    """
    target = Path(path)
    if _is_complete(target, seed):
        return target
    if target.exists() and any(target.iterdir()) and not (target / "recipe.json").exists():
        raise FileExistsError(f"{target} is not empty and holds no tiny model: choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _write(scratch, seed)
        _put_in_place(scratch, target, seed)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _is_complete(target: Path, seed: int) -> bool:
    try:
        recipe: object = json.loads((target / "recipe.json").read_text())
    except (OSError, ValueError):
        return False
    return recipe == _recipe(seed) and (target / "model.safetensors").exists()


def _recipe(seed: int) -> dict[str, Any]:
    return {"recipe": RECIPE, "seed": seed}


def _put_in_place(scratch: Path, target: Path, seed: int) -> None:
    if target.exists():
        shutil.rmtree(target)
    try:
        scratch.rename(target)
    except OSError:
        if not _is_complete(target, seed):
            raise


def _write(folder: Path, seed: int) -> None:
    folder.chmod(0o755)
    tokenizer = _train_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = [SPECIAL_TOKENS.index(token) for token in ("<|end|>", "<|endoftext|>")]
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    _write_json(folder / "config.json", _model_config(tokenizer.get_vocab_size(), ends))
    _write_json(folder / "generation_config.json", {"eos_token_id": ends})
    weights = _random_weights(tokenizer.get_vocab_size(), seed)
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    _write_json(folder / "recipe.json", _recipe(seed))


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _train_tokenizer() -> Tokenizer:
    """Byte-level BPE, so that any text can be encoded and comes back unchanged."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MAX_VOCABULARY,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = (Path(__file__).parent / "tiny_corpus.txt").read_text(encoding="utf-8")
    tokenizer.train_from_iterator(corpus.splitlines(), trainer=trainer)
    return tokenizer


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_TOKENS,
        "eos_token": SPECIAL_TOKENS[1],
        "pad_token": SPECIAL_TOKENS[0],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _model_config(vocabulary: int, ends: list[int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": CONTEXT_TOKENS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": ends,
        "dtype": "float32",
    }


def _random_weights(vocabulary: int, seed: int) -> Weights:
    """Weights of unit gain, so that every token, near or far, changes the next one's odds.

    The usual small initialisation would give nearly equal logits, and a wrong KV
    cache would hardly show. Logits have a standard deviation of about 2.
    """
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, gain: float = 1.0) -> NDArray[np.float32]:
        scale = gain / np.sqrt(columns)
        return np.asarray(rng.standard_normal((rows, columns)) * scale, dtype=np.float32)

    ones = np.ones(HIDDEN, dtype=np.float32)
    weights: Weights = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN, gain=16.0)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        weights[f"{prefix}.input_layernorm.weight"] = ones.copy()
        weights[f"{prefix}.post_attention_layernorm.weight"] = ones.copy()
        for name in ("q_proj", "k_proj"):
            weights[f"{prefix}.self_attn.{name}.weight"] = matrix(HEADS * HEAD_DIM, HIDDEN, gain=1.5)
        weights[f"{prefix}.self_attn.v_proj.weight"] = matrix(HEADS * HEAD_DIM, HIDDEN, gain=2.0)
        weights[f"{prefix}.self_attn.o_proj.weight"] = matrix(HIDDEN, HEADS * HEAD_DIM, gain=2.0)
        for name in ("gate_proj", "up_proj"):
            weights[f"{prefix}.mlp.{name}.weight"] = matrix(FEED_FORWARD, HIDDEN)
        weights[f"{prefix}.mlp.down_proj.weight"] = matrix(HIDDEN, FEED_FORWARD)
    weights["model.norm.weight"] = ones.copy()
    weights["lm_head.weight"] = matrix(vocabulary, HIDDEN, gain=2.0)
    return weights


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the tiny model (offline).")
    parser.add_argument("path", type=Path, help="folder to write; left as it is when complete")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default 0)")
    options = parser.parse_args(arguments)
    try:
        path = make_tiny_model(options.path, options.seed)
    except OSError as error:
        sys.stderr.write(f"cannot make the tiny model: {error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
