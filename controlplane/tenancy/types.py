"""Plain data about who calls, for the data plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ClassTerms:
    """What an SLO class promises; ``None`` where it promises nothing."""

    rank: int
    ttft_target_ms: int | None
    tpot_target_ms: int | None
    target_load_tokens: int | None
    service_tier: str = ""


@dataclass(frozen=True, slots=True)
class LimitTerms:
    """Limits of one subject; ``None`` = no limit."""

    scope: str
    """Who shares them: ``key``, ``tenant``, ``class``, ``key in class``, ``tenant in class``."""
    subject: str
    """Which one, stable and unique: ``tenant:7``, ``key:3:batch``. Counters are kept under it."""
    slo_class: str = ""
    """They bind requests served under this class; empty: under any."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    queued_requests: int | None = None
    queue_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """Whom a valid key speaks for, and what it may ask for."""

    tenant_id: int
    tenant_slug: str
    key_id: int
    key_prefix: str
    slo_class: str
    """Served when the request names no class."""
    allowed_classes: tuple[str, ...]
    """The default one included, by rank; boosts in force are in it."""
    class_rules: Mapping[str, ClassTerms]
    """Every class of the fleet, by name."""
    scopes: frozenset[str] = frozenset({"inference", "tokenize", "models"})
    networks: tuple[Network, ...] = ()
    """From where the key may be used; empty: from anywhere."""
    expires_at: datetime | None = None
    weight: float = 1.0
    """For fair sharing among tenants."""
    refuse_above_maximum: bool = False
    limits: tuple[LimitTerms, ...] = ()
    """All that bind requests of this key, whatever their class."""
    boosted_until: datetime | None = None
    """When the boost that raises this key ends; ``None`` without one."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """That a key was used, for its row."""

    key_id: int
    at: datetime
    address: str | None
