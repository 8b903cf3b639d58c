"""Plain data about who calls, for the data plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClassTerms:
    """What an SLO class promises; ``None`` where it promises nothing."""

    rank: int
    ttft_target_ms: int | None
    tpot_target_ms: int | None
    target_load_tokens: int | None
    service_tier: str = ""


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
    """The default one included, by rank."""
    class_rules: Mapping[str, ClassTerms]
    """Every class of the fleet, by name."""
