"""Plain data handed to this app by the data plane."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True)
class FinishedRequest:
    """One request that is over, as its gateway saw it. Times are UTC and aware.

    Never changed; not frozen, because a frozen one costs four times as much to build.
    """

    request_id: str
    tenant_id: int | None
    key_id: int | None
    slo_class_asked: str
    """Empty when the client named none."""
    slo_class_served: str
    model: str
    arrived_at: datetime
    first_token_at: datetime | None
    finished_at: datetime
    prompt_tokens: int
    output_tokens: int
    instance_ids: tuple[str, ...]
    """Owners in order; a request that moved has more than one."""
    dispatches: int
    moves: int
    recoveries: int
    outcome: str
    """``stop``, ``length``, ``abort`` or ``error:…``"""
    queued_ms: float
    cached_tokens: int = 0
    class_rule: str = ""
    """Why that class: ``default``, ``asked``, ``lowered``, ``boost``, ``reclassified``."""

    @property
    def ttft_ms(self) -> float | None:
        """Arrival to first token; ``None`` if none was made."""
        if self.first_token_at is None:
            return None
        return (self.first_token_at - self.arrived_at).total_seconds() * 1000

    @property
    def tpot_ms(self) -> float | None:
        """Mean time per output token after the first; ``None`` below two tokens."""
        if self.first_token_at is None or self.output_tokens < 2:
            return None
        return (self.finished_at - self.first_token_at).total_seconds() * 1000 / (self.output_tokens - 1)

    @property
    def end_to_end_ms(self) -> float:
        return (self.finished_at - self.arrived_at).total_seconds() * 1000
