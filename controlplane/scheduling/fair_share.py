"""Which tenant's request goes first inside a class? Token-based fair sharing, and aging across classes.

Every tenant has a virtual counter per rank: tokens served, divided by its weight. The
tenant with the smallest counter is next; within a tenant the queue's own order stands
(arrival + beta x prompt tokens). A tenant that comes back after a pause starts at the
counter of those who wait, so that idle time is not saved up. Source: Sheng et al.,
Fairness in Serving Large Language Models (OSDI'24), the virtual token counter.

With one tenant the order is that of the plain queue. Ranks come one after the other;
a request that has waited for half of its patience is looked at one rank earlier, at
three quarters with the first, so that higher classes cannot starve it for ever. Its own
rank stays: headroom is not given up for it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heapreplace
from math import inf
from typing import NamedTuple

from controlplane.scheduling.placement import Queued
from controlplane.scheduling.queueing import FleetQueue
from controlplane.scheduling.snapshot import RequestProfile

OUTPUT_WEIGHT = 2
"""An output token costs as much as so many prompt tokens (as in the source)."""
FIRST_GUESS_TOKENS = 128.0
"""Output expected of a tenant that has finished nothing yet."""
GUESS_MEMORY = 0.1
"""How much a tenant's newest output changes what is expected of its next."""
MAX_TENANTS = 10_000

Line = tuple[int, str]
"""Rank and tenant: one counter, one line of waiting requests."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a waiting request stands."""

    line: Line
    own_rank: int
    weight: float
    patience_s: float


class Charge(NamedTuple):
    """What a tenant was charged when its request was bound."""

    line: Line
    weight: float
    cost: float


def cost(prompt_tokens: float, output_tokens: float) -> float:
    """Of serving a request, in prompt tokens."""
    return prompt_tokens + OUTPUT_WEIGHT * output_tokens


def aged_rank(rank: int, waited_s: float, patience_s: float, best: int = 0) -> int:
    """The rank with which a request is looked at after so long a wait."""
    if rank <= best or waited_s < patience_s / 2:
        return rank
    return best if waited_s >= 0.75 * patience_s else rank - 1


class FairQueue(FleetQueue):
    """A :class:`FleetQueue` that is fair among tenants; tell it by :meth:`bound` and :meth:`ended`."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[int, dict[str, list[Queued]]] = {}
        self._places: dict[str, Place] = {}
        self._counters: dict[Line, float] = {}
        self._floor: dict[int, float] = {}
        """Per rank, the counter of the tenant that was served last."""
        self._charges: dict[str, Charge] = {}
        self._guesses: dict[str, float] = {}

    # ---------------------------------------------------------------- waiting

    def add(
        self,
        request: RequestProfile,
        rank: int,
        key_s: float,
        tenant: str = "",
        weight: float = 1.0,
        patience_s: float = inf,
    ) -> Queued:
        """Put a request in its place. Raises ``ValueError`` when it already waits."""
        entry = super().add(request, rank, key_s)
        self._stand(entry, Place((rank, tenant), rank, weight, patience_s))
        return entry

    def remove(self, request_id: str) -> bool:
        entry = self.get(request_id)
        if entry is not None:
            self._step_out(entry)
        return super().remove(request_id)

    def __iter__(self) -> Iterator[Queued]:
        """In the order of service, as if each were served when it is reached."""
        for rank in sorted(self._lines):
            yield from self._interleaved(rank)

    def age(self, now_s: float) -> int:
        """Let those who have waited long be looked at earlier; returns how many changed their line."""
        best = min(self._lines, default=0)
        late = []
        for rank in self._lines:
            if rank > best:
                late += [entry for line in self._lines[rank].values() for entry in line]
        changed = 0
        for entry in late:
            place = self._places[entry.request.request_id]
            waited_s = now_s - entry.request.arrived_at_s
            rank = min(place.line[0], aged_rank(place.own_rank, waited_s, place.patience_s, max(0, best)))
            if rank != place.line[0]:
                self._step_out(entry)
                self._stand(entry, replace(place, line=(rank, place.line[1])))
                changed += 1
        return changed

    # ---------------------------------------------------------------- charging

    def bound(self, request_id: str) -> None:
        """A waiting request leaves for an instance: its tenant is charged, once until it has ended."""
        if request_id in self._charges:
            return
        place = self._places[request_id]
        entry = self.get(request_id)
        assert entry is not None
        self._charge(entry, place.line, place.weight)

    def bound_at_once(self, entry: Queued, tenant: str, weight: float) -> None:
        """One that found room as it came: its tenant is charged as if it had waited for a moment."""
        if entry.request.request_id in self._charges:
            return
        line = (entry.rank, tenant)
        if tenant not in self._lines.get(entry.rank, ()):
            self._lift(line)
        self._charge(entry, line, weight)

    def _charge(self, entry: Queued, line: Line, weight: float) -> None:
        rank, counter = line[0], self._counters[line]
        if counter > self._floor.get(rank, 0.0):
            self._floor[rank] = counter
        # The output is paid when it is known. Were it guessed here and paid back later, a tenant
        # that comes meanwhile would be lifted to a counter that then sinks below its own.
        price = float(entry.tokens)
        self._charges[entry.request.request_id] = Charge(line, weight, price)
        self._counters[line] = counter + price / weight

    def ended(self, request_id: str, prompt_tokens: int, output_tokens: int) -> None:
        """It is over: the charge becomes what it really was."""
        charge = self._charges.pop(request_id, None)
        if charge is None:
            return
        tenant = charge.line[1]
        guess = self._guesses.get(tenant, FIRST_GUESS_TOKENS)
        self._guesses[tenant] = guess + GUESS_MEMORY * (output_tokens - guess)
        owed = max(0.0, cost(prompt_tokens, output_tokens) - charge.cost)
        self._pay(charge.line, owed / charge.weight)

    # ---------------------------------------------------------------- shedding

    def burden(self, rank: int, tenant: str) -> float:
        """Tokens per weight that a tenant has had and waits for in a rank."""
        line = self._lines.get(rank, {}).get(tenant, [])
        waiting = sum(self._price(entry, tenant) / self._weight(entry) for entry in line)
        return max(self._counters.get((rank, tenant), 0.0), self._entry_level(rank)) + waiting

    def victim(self, rank: int, tenant: str) -> Queued | None:
        """Who should give way to a newcomer of ``tenant`` and ``rank``; ``None``: nobody deserves less.

        Of the last rank the tenant with the greatest burden, its last request. Within the
        newcomer's own rank only a tenant with a greater burden gives way.
        """
        last = max(self._lines, default=rank)
        if last < rank or not self._lines:
            return None
        heaviest = max(self._lines[last], key=lambda name: (self.burden(last, name), name))
        mine = self.burden(rank, tenant) if last == rank else -inf
        if (heaviest == tenant and last == rank) or self.burden(last, heaviest) <= mine:
            return None
        return self._lines[last][heaviest][-1]

    # ---------------------------------------------------------------- inside

    def _stand(self, entry: Queued, place: Place) -> None:
        rank, tenant = place.line
        tenants = self._lines.setdefault(rank, {})
        if tenant not in tenants:
            tenants[tenant] = []
            self._lift(place.line)
        insort(tenants[tenant], entry, key=_own_order)
        self._places[entry.request.request_id] = place

    def _lift(self, line: Line) -> None:
        """A tenant that had nothing waiting starts where the others are: idle time is not saved up."""
        rank, tenant = line
        self._counters[line] = max(self._counters.get(line, 0.0), self._entry_level(rank, without=tenant))
        if len(self._counters) > MAX_TENANTS:
            self._forget_some()

    def _step_out(self, entry: Queued) -> None:
        rank, tenant = self._places.pop(entry.request.request_id).line
        line = self._lines[rank][tenant]
        del line[bisect_left(line, _own_order(entry), key=_own_order)]
        if not line:
            del self._lines[rank][tenant]
            if not self._lines[rank]:
                del self._lines[rank]

    def _entry_level(self, rank: int, without: str = "\0") -> float:
        """What a tenant that comes newly starts at, at least."""
        waiting = [self._counters[rank, name] for name in self._lines.get(rank, {}) if name != without]
        return min(waiting) if waiting else self._floor.get(rank, 0.0)

    def _interleaved(self, rank: int) -> Iterator[Queued]:
        lines = self._lines[rank]
        if len(lines) == 1:
            yield from next(iter(lines.values()))
            return
        heap = [(self._counters[rank, tenant], tenant, 0) for tenant in lines]
        heapify(heap)
        while heap:
            counter, tenant, index = heap[0]
            entry = lines[tenant][index]
            yield entry
            if index + 1 < len(lines[tenant]):
                price = self._price(entry, tenant) / self._weight(entry)
                heapreplace(heap, (counter + price, tenant, index + 1))
            else:
                heappop(heap)

    def _price(self, entry: Queued, tenant: str) -> float:
        return cost(entry.tokens, self._guesses.get(tenant, FIRST_GUESS_TOKENS))

    def _weight(self, entry: Queued) -> float:
        return self._places[entry.request.request_id].weight

    def _pay(self, line: Line, amount: float) -> None:
        self._counters[line] = self._counters.get(line, 0.0) + amount

    def _forget_some(self) -> None:
        """Counters of tenants that are far behind say nothing any more: they would be lifted anyway."""
        for line, counter in list(self._counters.items()):
            rank, tenant = line
            if tenant not in self._lines.get(rank, {}) and counter <= self._floor.get(rank, 0.0):
                del self._counters[line]
                self._guesses.pop(tenant, None)


def _own_order(entry: Queued) -> tuple[float, int]:
    return (entry.key_s, entry.number)
