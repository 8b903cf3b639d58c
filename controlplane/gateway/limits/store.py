"""The common counters: what a gateway orders of them, what it is granted. Pure, but for whoever keeps them.

A *rate* is a bucket that holds a minute's allowance and refills steadily. *Slots* are
a number of things that may be open at once; each gateway says how many it holds, and
what a gateway said is forgotten when it falls silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

HOLDER_TTL_S = 10.0
"""Slots of a gateway that says nothing for so long are free again."""

Kind = Literal["rate", "slots"]


class Order(msgspec.Struct, array_like=True, frozen=True):
    """What a gateway asks of one counter."""

    kind: Kind
    name: str
    limit: int
    need: float = 0.0
    """Less than this is of no use."""
    want: float = 0.0
    """At most so much, ``need`` included."""
    back: float = 0.0
    """Rate: units returned (negative: used beyond what was granted). Slots: all that are held by now."""


class Grant(msgspec.Struct, array_like=True, frozen=True):
    """The answer."""

    granted: float
    left: float
    """In the common counter after the grant; below zero: a debt."""
    wait_s: float
    """Until ``need`` may be there; 0 when it was granted."""


class StoreError(Exception):
    """The common counters cannot be reached."""


class Store(Protocol):
    """Several orders at once, each carried out atomically, in their order."""

    async def exchange(self, orders: Sequence[Order]) -> list[Grant]:
        """Raises :class:`StoreError`."""


class LocalStore:
    """Counters of this process alone: where Redis is away, and as the model of what Redis does."""

    def __init__(self, clock: Callable[[], float], holder: str = "here", share: int = 1) -> None:
        self._clock, self._holder = clock, holder
        self.share = share
        """Among so many gateways the limits are divided."""
        self._rates: dict[str, tuple[float, float]] = {}
        self._slots: dict[str, dict[str, tuple[float, float]]] = {}

    async def exchange(self, orders: Sequence[Order]) -> list[Grant]:
        return [self.carry_out(order, self._holder, self._clock()) for order in orders]

    def carry_out(self, order: Order, holder: str, now_s: float) -> Grant:
        limit = max(1, order.limit // self.share)
        if order.kind == "rate":
            return self._rate(order, limit, now_s)
        return self._held(order, limit, holder, now_s)

    def _rate(self, order: Order, limit: int, now_s: float) -> Grant:
        level, at_s = self._rates.get(order.name, (float(limit), now_s))
        level = min(limit, level + max(0.0, now_s - at_s) * limit / 60.0 + order.back)
        granted = grant(order, level)
        level -= granted
        self._rates[order.name] = (level, now_s)
        wait_s = 0.0 if granted or not order.need else max(0.0, order.need - level) * 60.0 / limit
        return Grant(granted, level, wait_s)

    def _held(self, order: Order, limit: int, holder: str, now_s: float) -> Grant:
        holders = self._slots.setdefault(order.name, {})
        for other in [name for name, (_, until_s) in holders.items() if until_s <= now_s]:
            del holders[other]
        others = sum(count for name, (count, _) in holders.items() if name != holder)
        left = limit - others - order.back
        granted = grant(order, left)
        holders[holder] = (order.back + granted, now_s + HOLDER_TTL_S)
        return Grant(granted, left - granted, 0.0 if granted or not order.need else 1.0)


def grant(order: Order, left: float) -> float:
    """All that is wanted if it is there, whatever is there if that is of use, else nothing."""
    return float(math.floor(min(order.want, left))) if order.need and left >= order.need else 0.0
