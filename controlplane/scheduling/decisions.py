"""What a policy says. A decision is data: a driver executes it, ``explain`` renders why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Bind this request to this instance now."""

    request_id: str
    instance_id: str
    rule: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Keep the request in the fleet's queue; ``reason`` is for people."""

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """No instance can ever take this request."""

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Migrate:
    """Move up to ``max_requests`` requests and ``budget_tokens`` tokens; the source chooses which."""

    source_id: str
    destination_id: str
    rule: str
    budget_tokens: int
    max_requests: int = 1
    order: str = "shortest"
    """Which leaves first within the lowest priority: ``shortest``, ``latest``, ``longest``, ``cover``."""
    need_tokens: int = 0
    """With ``cover``: what the source must be rid of; the smallest request that covers it leaves."""
    spare_rank_below: int | None = None
    """Requests of a lower rank number stay: the move makes headroom for them."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Keep this instance's free memory for one request that has waited long; ``tokens`` is its demand."""

    request_id: str
    instance_id: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Drain:
    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Undrain:
    """Cancel a pending scale-down: the instance takes work again."""

    instance_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ScaleUp:
    instances: int
    reason: str


@dataclass(frozen=True, slots=True)
class ScaleDown:
    instance_id: str
    reason: str


Decision = Dispatch | Hold | Reject | Migrate | Hole | Drain | Undrain | ScaleUp | ScaleDown
