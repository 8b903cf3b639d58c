"""Keys and classes as the control plane would give them."""

from __future__ import annotations

from types import MappingProxyType

from controlplane.tenancy.types import ClassTerms, KeyIdentity

CLASSES = MappingProxyType(
    {
        "interactive": ClassTerms(0, 500, 50, None, "priority"),
        "standard": ClassTerms(1, 2000, 80, None, "default"),
        "batch": ClassTerms(2, 60000, None, None, "flex"),
    }
)


def identity(
    slo_class: str = "standard", allowed: tuple[str, ...] = tuple(CLASSES), key_id: int = 11
) -> KeyIdentity:
    return KeyIdentity(1, "demo", key_id, "prefix", slo_class, allowed, CLASSES)


KEYS = {"good-key": identity(), "batch-key": identity("batch", ("batch",), 12)}
