"""What the paced engine reads and writes on the wire, and how it makes tokens.

It speaks the shapes of vLLM 0.32's ``EngineCoreRequest``, ``SamplingParams`` and
``EngineCoreOutputs`` (positional MessagePack arrays) without importing vLLM, so
that a gateway needs no second way of talking to a simulated engine. Only the
fields that matter to a simulation are named; what follows them is ignored when
read and left out (hence default) when written.

Tokens are a pure function of (prompt, earlier tokens, sampler state), taken
through the KV cache: a wrong, missing or misplaced block, a lost token or a
lost draw changes everything that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgspec

FINISHED_STOP = 0
FINISHED_LENGTH = 1
_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15


class PacedSampling(msgspec.Struct, omit_defaults=True):
    """The part of ``SamplingParams`` that the simulation obeys."""

    temperature: float = 1.0
    seed: int | None = None
    max_tokens: int | None = 16
    stop_token_ids: list[int] | None = None


class PacedRequest(msgspec.Struct, array_like=True):
    """The leading fields of ``EngineCoreRequest``, in its order."""

    request_id: str
    prompt_token_ids: list[int] | None
    mm_features: Any = None
    sampling_params: PacedSampling | None = None
    pooling_params: Any = None
    arrival_time: float = 0.0
    lora_request: Any = None
    cache_salt: Any = None
    data_parallel_rank: Any = None


class PacedOutput(msgspec.Struct, array_like=True):
    """The leading fields of ``EngineCoreOutput``, in its order."""

    request_id: str
    new_token_ids: list[int]
    new_logprobs: None = None
    new_prompt_logprobs_tensors: None = None
    pooling_output: None = None
    finish_reason: int | None = None
    stop_reason: int | str | None = None


class PacedOutputs(msgspec.Struct, array_like=True):
    """The leading fields of ``EngineCoreOutputs``, in its order."""

    engine_index: int
    outputs: list[PacedOutput]
    scheduler_stats: None = None
    timestamp: float = 0.0


class PacedImage(msgspec.Struct):
    """A request as first sent, for the destination of a move."""

    engine_request: bytes
    slo_class: str
    tenant: str
    rank: int
    arrived_at_s: float


class PacedState(msgspec.Struct):
    """What a frozen request carries besides tokens and KV."""

    sampler: int


_request_decoder = msgspec.msgpack.Decoder(PacedRequest)
_outputs_decoder = msgspec.msgpack.Decoder(PacedOutputs)


def encode_request(
    request_id: str,
    prompt_token_ids: list[int],
    *,
    max_tokens: int = 16,
    temperature: float = 0.0,
    seed: int | None = None,
) -> bytes:
    """An ``Add.engine_request`` that both this engine and vLLM's decoder understand."""
    sampling = PacedSampling(temperature=temperature, seed=seed, max_tokens=max_tokens)
    return msgspec.msgpack.encode(PacedRequest(request_id, prompt_token_ids, sampling_params=sampling))


def decode_request(data: bytes) -> PacedRequest:
    """Raises ``ValueError`` (msgspec's ``ValidationError`` among them) on anything else."""
    return _request_decoder.decode(data)


def decode_outputs(payload: bytes) -> PacedOutputs:
    """Inverse of what the engine sends in ``Step.outputs``."""
    return _outputs_decoder.decode(payload)


@dataclass(slots=True)
class Sampler:
    """SplitMix64: like a ``torch.Generator``, one draw per sampled token, and its state travels."""

    state: int
    greedy: bool

    @classmethod
    def of(cls, sampling: PacedSampling, request_id: str, prior_draws: int) -> Sampler:
        """The sampler of a request after ``prior_draws`` tokens; unseeded requests are seeded by their id."""
        seed = sampling.seed if sampling.seed is not None else crc32(request_id.encode())
        greedy = sampling.temperature == 0.0
        return cls(_MASK & (seed if greedy else seed + prior_draws * _GAMMA), greedy)

    def draw(self) -> int:
        if self.greedy:
            return 0
        self.state = (self.state + _GAMMA) & _MASK
        return _mix(self.state)


def kv_value(previous: int, token_id: int) -> int:
    """The KV entry of one token: it depends on all tokens before, as a real one does."""
    return _mix((previous * 0xBF58476D1CE4E5B9 + token_id + 1) & _MASK)


def next_token(last_kv: int, draw: int, vocabulary: int) -> int:
    return _mix(last_kv ^ draw) % vocabulary


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
