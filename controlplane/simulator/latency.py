"""How long does one step of an engine take? A few published or fitted coefficients.

A step that prefills ``n`` prompt tokens takes ``a + b n + c n^2``; a decode step of
``batch`` sequences that hold ``context`` tokens of KV cache takes
``a + b batch + c context`` (memory-bound: the weights once, then the cache). Each model
is a JSON file under ``coefficients/`` in milliseconds, with its source; here all times
are seconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COEFFICIENTS = Path(__file__).parent / "coefficients"
DEFAULT_MODEL = "llama-7b-a10-calibrated"
MS = 1e-3


class LatencyModelError(ValueError):
    """A coefficient file is missing, unreadable or out of range; the text names file and field."""


@dataclass(frozen=True)
class LatencyModel:
    """One engine on one kind of device: step times, memory, batch limits, migration costs.

    The coefficients are plain attributes, in seconds, so that an engine can write the
    formulas out in its own loop.
    """

    name: str
    source: str
    prefill_a: float
    prefill_b: float
    prefill_c: float
    decode_a: float
    decode_b: float
    decode_c: float
    capacity_blocks: int
    block_size_tokens: int
    max_batch_tokens: int
    """Prompt tokens one prefill step may take (engine of 2023)."""
    max_batch_requests: int
    chunk_budget_tokens: int
    """Tokens one step of a chunked engine may take, decodes included."""
    migration_copy_s_per_token: float
    migration_stall_a: float
    migration_stall_b: float

    @property
    def capacity_tokens(self) -> int:
        return self.capacity_blocks * self.block_size_tokens

    def prefill_s(self, tokens: int) -> float:
        """One prefill step of one prompt of ``tokens`` tokens."""
        return self.prefill_a + self.prefill_b * tokens + self.prefill_c * tokens * tokens

    def prefill_batch_s(self, tokens: int, squares: int) -> float:
        """One prefill step of several prompts; attention is per prompt, hence the sum of their squares."""
        return self.prefill_a + self.prefill_b * tokens + self.prefill_c * squares

    def decode_s(self, batch: int, context_tokens: int) -> float:
        """One decode step of ``batch`` sequences that hold ``context_tokens`` tokens together."""
        return self.decode_a + self.decode_b * batch + self.decode_c * context_tokens

    def mixed_s(self, prefill_tokens: int, prefill_context: int, batch: int, context: int) -> float:
        """One step of a chunked engine.

        ``prefill_tokens`` prompt tokens whose prompts have ``prefill_context`` tokens
        computed already, together with ``batch`` decodes over ``context`` tokens. The
        weights are read once, so the step is bound either by memory (as a decode step)
        or by arithmetic (as a prefill step of all its tokens), plus both attentions.
        """
        memory = self.decode_a + self.decode_b * batch
        if prefill_tokens == 0:
            return memory + self.decode_c * context
        arithmetic = self.prefill_a + self.prefill_b * (prefill_tokens + batch)
        attention = self.prefill_c * prefill_tokens * (prefill_tokens + 2 * prefill_context)
        return max(memory, arithmetic) + attention + self.decode_c * context

    def migration_stall_s(self, tokens: int) -> float:
        """How long a request of ``tokens`` tokens stands still at its hand-over."""
        return self.migration_stall_a + self.migration_stall_b * tokens


@dataclass(frozen=True, slots=True)
class _Field:
    """Where an attribute stands in the file, its scale, and the least value allowed."""

    attribute: str
    key: str
    scale: float
    least: float = 0.0
    default: float | None = None
    slowed_by_overhead: bool = False


_TIMES = (
    _Field("prefill_a", "prefill_constant_ms", MS, slowed_by_overhead=True),
    _Field("prefill_b", "prefill_ms_per_token", MS, slowed_by_overhead=True),
    _Field("prefill_c", "prefill_ms_per_token_squared", MS, default=0.0, slowed_by_overhead=True),
    _Field("decode_a", "decode_constant_ms", MS, slowed_by_overhead=True),
    _Field("decode_b", "decode_ms_per_sequence", MS, slowed_by_overhead=True),
    _Field("decode_c", "decode_ms_per_context_token", MS, slowed_by_overhead=True),
    _Field("migration_copy_s_per_token", "migration_copy_ms_per_token", MS, default=0.208),
    _Field("migration_stall_a", "migration_stall_constant_ms", MS, default=12.0),
    _Field("migration_stall_b", "migration_stall_ms_per_token", MS, default=0.0017),
)
_COUNTS = (
    _Field("capacity_blocks", "capacity_blocks", 1, least=1),
    _Field("block_size_tokens", "block_size_tokens", 1, least=1, default=16),
    _Field("max_batch_tokens", "max_batch_tokens", 1, least=1, default=12_800),
    _Field("max_batch_requests", "max_batch_requests", 1, least=1, default=256),
    _Field("chunk_budget_tokens", "chunk_budget_tokens", 1, least=1, default=2048),
)


def available() -> tuple[str, ...]:
    """Names of the models that come with the simulator."""
    return tuple(sorted(path.stem for path in COEFFICIENTS.glob("*.json")))


def load(name_or_path: str = DEFAULT_MODEL) -> LatencyModel:
    """A model by its name or by the path of a coefficient file.

    Raises :class:`LatencyModelError` when there is none or a field is bad.
    """
    path = COEFFICIENTS / f"{name_or_path}.json"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        raise LatencyModelError(
            f"no latency model {name_or_path!r}: give a file or one of {', '.join(available())}"
        )
    try:
        raw = json.loads(path.read_text())
    except ValueError as error:
        raise LatencyModelError(f"{path}: not JSON: {error}") from error
    return from_dict(raw, str(path))


def from_dict(raw: object, where: str) -> LatencyModel:
    """A model from the plain data of a coefficient file; ``where`` is named in errors."""
    if not isinstance(raw, Mapping):
        raise LatencyModelError(f"{where}: expected an object with coefficients")
    overhead = _number(raw, _Field("", "engine_overhead", 1.0, least=0.01, default=1.0), where)
    values: dict[str, Any] = {
        field.attribute: _number(raw, field, where)
        * field.scale
        * (overhead if field.slowed_by_overhead else 1.0)
        for field in _TIMES
    }
    values.update({field.attribute: _count(raw, field, where) for field in _COUNTS})
    return LatencyModel(
        name=str(raw.get("name", Path(where).stem)), source=str(raw.get("source", "")), **values
    )


def _number(raw: Mapping[str, Any], field: _Field, where: str) -> float:
    value = raw.get(field.key, field.default)
    if value is None:
        raise LatencyModelError(f"{where}: {field.key} is missing")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LatencyModelError(f"{where}: {field.key} must be a number, got {value!r}")
    if not field.least <= value < float("inf"):
        raise LatencyModelError(f"{where}: {field.key} must be at least {field.least:g}, got {value:g}")
    return float(value)


def _count(raw: Mapping[str, Any], field: _Field, where: str) -> int:
    value = _number(raw, field, where)
    if value != int(value):
        raise LatencyModelError(f"{where}: {field.key} must be a whole number, got {value:g}")
    return int(value)
