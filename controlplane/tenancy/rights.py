"""Which class may be served to whom: pure rules over ranks, for selectors and services alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rights:
    """What a tenant or a key was given; ``None`` and empty where nothing was said."""

    default: str | None
    allowed: frozenset[str]
    maximum: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What follows: the class by default, and all classes that may be asked for, best first."""

    default: str
    allowed: tuple[str, ...]


def resolve(tenant: Rights, key: Rights, boosts: Iterable[str], ranks: Mapping[str, int]) -> Served:
    """The key's rights within the tenant's, and on top of them the best class of the boosts in force.

    A key can only narrow what its tenant has. A default that is not allowed (a key's,
    or one above the maximum) falls to the best allowed class that is not better.
    """
    mine = _capped({str(tenant.default), *tenant.allowed}, tenant.maximum, ranks)
    allowed = mine
    if key.allowed:
        allowed = (mine & {*key.allowed, str(key.default)}) or _lowest(mine, ranks)
    if key.maximum is not None:
        allowed = _not_better(allowed, key.maximum, ranks) or _capped(mine, key.maximum, ranks)
    default = _at_most(str(key.default or tenant.default), allowed, ranks)
    boosted = min(boosts, key=lambda name: ranks.get(name, 0), default=None)
    if boosted is not None:
        allowed |= {boosted}
        default = min(default, boosted, key=lambda name: ranks.get(name, 0))
    return Served(default, tuple(sorted(allowed, key=lambda name: (ranks.get(name, 0), name))))


def _capped(names: set[str], maximum: str | None, ranks: Mapping[str, int]) -> set[str]:
    """Those not better than ``maximum``; where none is left, ``maximum`` itself."""
    if maximum is None:
        return set(names)
    return _not_better(names, maximum, ranks) or {maximum}


def _not_better(names: set[str], maximum: str, ranks: Mapping[str, int]) -> set[str]:
    return {name for name in names if ranks.get(name, 0) >= ranks.get(maximum, 0)}


def _lowest(names: set[str], ranks: Mapping[str, int]) -> set[str]:
    return {max(names, key=lambda name: (ranks.get(name, 0), name))}


def _at_most(wanted: str, allowed: set[str], ranks: Mapping[str, int]) -> str:
    """``wanted``, or the best allowed class that is not better, or the lowest allowed."""
    if wanted in allowed:
        return wanted
    lower = {name for name in allowed if ranks.get(name, 0) >= ranks.get(wanted, 0)} or _lowest(
        allowed, ranks
    )
    return min(lower or _lowest(allowed, ranks), key=lambda name: (ranks.get(name, 0), name))
