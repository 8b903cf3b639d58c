"""The paced engine's options, and what it keeps of one request, one reservation, one token."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import msgspec

from engine_agents.engines.paced_wire import PacedImage, PacedRequest, PacedSampling, Sampler
from engine_agents.engines.port import RequestState


@dataclass(frozen=True, slots=True)
class PacedOptions:
    """``AgentConfig.engine_args`` of a paced engine. Times are milliseconds of one step."""

    block_size_tokens: int = 16
    kv_bytes_per_token: int = 1024
    max_model_len: int = 4096
    vocabulary: int = 256
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    base_step_ms: float = 4.0
    per_sequence_ms: float = 0.1
    per_prefill_token_ms: float = 0.02
    per_context_token_ms: float = 0.0
    """Of every token of KV cache that a step reads."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) < 0 or (not name.endswith("_ms") and getattr(self, name) == 0):
                raise ValueError(f"engine_args.{name}: must be positive, is {getattr(self, name)}")
        if self.kv_bytes_per_token % 8:
            raise ValueError("engine_args.kv_bytes_per_token: must be a multiple of 8")

    @classmethod
    def from_args(cls, args: dict[str, Any]) -> PacedOptions:
        """Raises ``ValueError`` naming the field that is unknown or out of range."""
        unknown = sorted(set(args) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"engine_args.{unknown[0]}: unknown; known: {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**args)


@dataclass(slots=True, eq=False)
class PacedLive:
    """One request on this engine. ``tokens`` is prompt and output; KV exists for the first ``computed``."""

    engine_id: str
    client: str
    image: PacedImage
    tokens: list[int]
    prompt_tokens: int
    sampling: PacedSampling
    sampler: Sampler
    rank: int
    computed: int = 0
    blocks: list[int] = field(default_factory=list)
    state: RequestState = RequestState.WAITING

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def order(self) -> tuple[int, float, str]:
        return (self.rank, self.image.arrived_at_s, self.engine_id)


@dataclass(slots=True, eq=False)
class PacedReservation:
    """Blocks held for an incoming request. The lock keeps a late write out of blocks already given back."""

    engine_id: str
    live: PacedLive
    held: list[int]
    written: set[int] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    active: bool = True

    @property
    def blocks(self) -> int:
        return len(self.held)


@dataclass(frozen=True, slots=True)
class Made:
    """One token of one request in one step."""

    live: PacedLive
    position: int
    """Of the token in the request's output."""
    token_id: int
    finish_reason: int | None


def live_request(engine_id: str, client: str, image: PacedImage, prior: list[int]) -> PacedLive:
    """Raises ``ValueError`` for a request without prompt or of another shape."""
    wire = msgspec.msgpack.decode(image.engine_request, type=PacedRequest)
    if not wire.prompt_token_ids:
        raise ValueError("prompt_token_ids: empty")
    sampling = wire.sampling_params or PacedSampling()
    return PacedLive(
        engine_id=engine_id,
        client=client,
        image=image,
        tokens=[*wire.prompt_token_ids, *prior],
        prompt_tokens=len(wire.prompt_token_ids),
        sampling=sampling,
        sampler=Sampler.of(sampling, engine_id.rpartition("#")[0], len(prior)),
        rank=image.rank,
    )
