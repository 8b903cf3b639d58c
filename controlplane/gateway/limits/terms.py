"""From what a tenant, a key and a class may do to what one request demands. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from controlplane.gateway.envelope import Envelope
from controlplane.gateway.limits.book import Demand
from controlplane.tenancy.types import LimitTerms

SET_ASIDE_OUTPUT_TOKENS = 256
"""At most so many output tokens per choice are set aside of the tokens per minute before they are made."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one request demands, and how it may wait."""

    demands: tuple[Demand, ...]
    gate_limit: int
    """Requests that may wait at the gate for a slot; 0: none may."""
    gate_limit_s: float
    """How long."""


def binding(limits: Sequence[LimitTerms], slo_class: str) -> tuple[LimitTerms, ...]:
    """Those that bind a request served under this class."""
    return tuple(terms for terms in limits if terms.slo_class in ("", slo_class))


def needs(limits: Sequence[LimitTerms], envelope: Envelope) -> Needs:
    """What the binding ``limits`` make of a request."""
    slots = [terms for terms in limits if terms.concurrent_requests is not None]
    return Needs(
        demands=tuple(demand for terms in limits for demand in _demands(terms, envelope)),
        gate_limit=min((terms.queued_requests or 0 for terms in slots), default=0),
        gate_limit_s=queue_limit_s(slots, 30.0),
    )


def queue_limit_s(limits: Sequence[LimitTerms], otherwise_s: float) -> float:
    """The shortest time that any of the limits lets a request wait."""
    return min((each.queue_seconds for each in limits if each.queue_seconds is not None), default=otherwise_s)


def set_aside_tokens(envelope: Envelope) -> int:
    """Tokens that a request probably uses, before anything is known for certain."""
    most = SET_ASIDE_OUTPUT_TOKENS if envelope.max_tokens is None else envelope.max_tokens
    output = max(0, min(most, SET_ASIDE_OUTPUT_TOKENS))
    return envelope.likely_prompt_tokens + output * envelope.choices


def _demands(terms: LimitTerms, envelope: Envelope) -> Iterator[Demand]:
    subject = terms.subject
    if (limit := terms.requests_per_minute) is not None:
        yield Demand("rate", f"requests:{subject}", limit, 1.0, title(terms, "requests_per_minute"))
    if (limit := terms.tokens_per_minute) is not None:
        # What is more than a minute's allowance waits for a full bucket, and is in debt afterwards.
        amount = float(min(limit, set_aside_tokens(envelope)))
        yield Demand("rate", f"tokens:{subject}", limit, amount, title(terms, "tokens_per_minute"))
    if (limit := terms.concurrent_requests) is not None:
        yield Demand("slots", f"open:{subject}", limit, 1.0, title(terms, "concurrent_requests"))


def title(terms: LimitTerms, limit: str) -> str:
    """``tenant.requests_per_minute``, ``key in class batch.queue_seconds``."""
    scope = terms.scope.removesuffix(" in class")
    return f"{scope} in class {terms.slo_class}.{limit}" if terms.slo_class else f"{scope}.{limit}"
