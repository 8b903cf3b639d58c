"""What we keep of each request beside vLLM's own: for whom it runs, and what has been delivered."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestTimes:
    """What metrics need to know of a request on this engine; seconds of the monotonic clock, 0: not yet."""

    max_tokens: int | None = None
    queued_s: float = 0.0
    scheduled_s: float = 0.0
    first_token_s: float = 0.0
    """Made here, whether or not it was the request's first."""
    last_token_s: float = 0.0
    generated_tokens: int = 0
    """Made here."""
    preemptions: int = 0
    cached_tokens: int = 0
    """Of the prompt, found in the prefix cache."""
    from_prompt: bool = False
    """Its prompt was computed here."""


@dataclass(slots=True)
class LiveRequest:
    """One request on this engine, from its Add (or adoption) to its last output."""

    engine_id: str
    client: str
    """The gateway that its outputs go to."""
    slo_class: str
    tenant: str
    rank: int
    prompt_tokens: int
    engine_request: bytes
    """The request as first sent, in vLLM's encoding; travels with it."""
    arrived_at_s: float
    delivered_tokens: int = 0
    """Output tokens that went out already, here or elsewhere: where the next output starts."""
    preempted: bool = False
    """It lost its KV cache here and waits for room."""
    times: RequestTimes = field(default_factory=RequestTimes)
