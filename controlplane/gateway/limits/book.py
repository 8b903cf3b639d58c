"""What this gateway may still let in: units leased from the common counters, spent without asking.

A request is judged on leases in memory. Only when one is used up is the common store
asked, once for all that wait for it, and for more the busier the limit is: so a small
limit is kept to the unit by any number of gateways, and a large one costs a question
per hundreds of requests. What is leased and not used goes back within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controlplane.gateway.limits.store import Grant, Kind, Order, Store

RATE_AHEAD_S = 0.5
"""A busy rate is leased ahead for so long …"""
SLOTS_AHEAD = 32
"""… and busy slots for this part of the limit."""
ROUNDS = 3
"""Questions on behalf of one request before it is refused."""
IDLE_S = 1.0
TIDY_S = 0.25
BEAT_S = 2.0
FORGET_S = 300.0


@dataclass(frozen=True, slots=True)
class Demand:
    """So much of one limit."""

    kind: Kind
    name: str
    """Of the counter, as in :class:`Order`."""
    limit: int
    amount: float = 1.0
    title: str = ""
    """For people: ``tenant.requests_per_minute``."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why a request cannot be let in now."""

    demand: Demand
    wait_s: float


@dataclass(slots=True, eq=False)
class Lease:
    """Of one counter. Rate: ``have`` units to spend. Slots: ``have`` free ones of ``held``."""

    kind: Kind
    name: str
    limit: int
    have: float = 0.0
    held: float = 0.0
    owed: float = 0.0
    """Rate: to be settled with the next question; negative: more was used than granted."""
    left: float = 0.0
    """In the common counter, as last told …"""
    told_s: float = 0.0
    """… at this time."""
    wait_s: float = 0.0
    asked: list[float] = field(default_factory=list)
    """Amounts that requests wait for."""
    touched_s: float = 0.0
    grown_s: float = -1e9
    """When it last had to be filled up."""

    def spend(self, amount: float) -> None:
        self.have -= amount

    def settle(self, unused: float) -> None:
        """Of a rate: so much of what was spent was not used, or (negative) so much more was."""
        self.have += unused
        if self.have < 0.0:
            self.owed += self.have
            self.have = 0.0

    def remaining(self, now_s: float) -> float:
        """About so much is left for this gateway's callers, before anybody else takes it."""
        left = self.left
        if self.kind == "rate":
            left = min(self.limit, left + (now_s - self.told_s) * self.limit / 60.0)
        return max(0.0, min(float(self.limit), self.have + left))

    def order(self, now_s: float) -> Order:
        need = min(self.asked, default=0.0)
        want = 0.0
        if self.asked:
            want = max(need, sum(self.asked) - self.have) + self._ahead(now_s)
            self.asked.clear()
        if self.kind == "slots":
            return Order("slots", self.name, self.limit, max(0.0, need - self.have), want, self.held)
        back, self.owed = self.owed, 0.0
        return Order("rate", self.name, self.limit, max(0.0, need - self.have), want, back)

    def _ahead(self, now_s: float) -> float:
        """What to lease beyond what is asked for: nothing unless it was used up just now."""
        if now_s - self.grown_s > IDLE_S:
            return 0.0
        return float(
            int(self.limit * RATE_AHEAD_S / 60.0 if self.kind == "rate" else self.limit / SLOTS_AHEAD)
        )

    def absorb(self, grant: Grant, now_s: float) -> None:
        self.have += grant.granted
        if self.kind == "slots":
            self.held += grant.granted
        if grant.granted:
            self.grown_s = now_s
        self.left, self.told_s, self.wait_s = grant.left, now_s, grant.wait_s

    def give_up_idle(self, now_s: float) -> bool:
        """Return what is not needed; whether the store must be told."""
        spare = max(0.0, float(int(self.have)))
        if self.kind == "slots":
            spare -= self._ahead(now_s)
        elif now_s - self.touched_s < IDLE_S:
            spare = 0.0
        if spare >= 1.0:
            self.have -= spare
            if self.kind == "slots":
                self.held -= spare
                return True
            self.owed += spare
        return self.owed != 0.0 and (abs(self.owed) >= self.limit / 60.0 or now_s - self.touched_s >= IDLE_S)


class LimitBook:
    """All leases of one gateway. On the event loop."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._leases: dict[str, Lease] = {}
        self._asking: asyncio.Task[None] | None = None
        self._freed: dict[str, asyncio.Event] = {}

    async def take(self, demands: Sequence[Demand]) -> Shortage | None:
        """All of it, or nothing and the reason."""
        for _ in range(ROUNDS):
            short = self._try(demands)
            if not short:
                return None
            for demand in short:
                self._lease(demand).asked.append(demand.amount)
            await self._ask()
        short = self._try(demands)
        if not short:
            return None
        worst = max(short, key=lambda demand: self._lease(demand).wait_s)
        return Shortage(worst, self._lease(worst).wait_s)

    def give_back(self, slots: Sequence[Demand]) -> None:
        """These are free again."""
        for demand in slots:
            lease = self._lease(demand)
            lease.have += demand.amount
            if (freed := self._freed.get(lease.name)) is not None:
                freed.set()

    def settle(self, rate: Demand, unused: float) -> None:
        """Of what was taken of a rate so much was not used; negative: so much more was."""
        self._lease(rate).settle(unused)

    async def wait_for_slot(self, demand: Demand, limit_s: float) -> None:
        """Until a slot of this counter may be free, or a moment has passed."""
        freed = self._freed.setdefault(demand.name, asyncio.Event())
        freed.clear()
        try:
            async with asyncio.timeout(min(limit_s, IDLE_S)):
                await freed.wait()
        except TimeoutError:
            return

    def remaining(self, demand: Demand) -> float:
        """About how much is left of the limit."""
        lease = self._leases.get(demand.name)
        return lease.remaining(self._clock()) if lease is not None else float(demand.limit)

    async def tend(self) -> None:
        """Until cancelled: return what lies idle, settle, and tell the store that this gateway lives."""
        beat_s = 0.0
        while True:
            await asyncio.sleep(TIDY_S)
            now_s = self._clock()
            due = [lease for lease in self._leases.values() if lease.give_up_idle(now_s)]
            if now_s - beat_s >= BEAT_S:
                beat_s = now_s
                due = [lease for lease in self._leases.values() if lease in due or lease.held]
                self._forget_unused(now_s)
            if due:
                await self._exchange(due)

    # ---------------------------------------------------------------- inside

    def _try(self, demands: Sequence[Demand]) -> list[Demand]:
        """Spend all, or nothing and what is short."""
        short = [demand for demand in demands if self._lease(demand).have < demand.amount]
        if not short:
            now_s = self._clock()
            for demand in demands:
                lease = self._lease(demand)
                lease.touched_s = now_s
                lease.spend(demand.amount)
        return short

    def _lease(self, demand: Demand) -> Lease:
        lease = self._leases.get(demand.name)
        if lease is None:
            lease = self._leases[demand.name] = Lease(
                demand.kind, demand.name, demand.limit, left=demand.limit
            )
        lease.limit = demand.limit
        return lease

    async def _ask(self) -> None:
        """One question at a time, for all who wait; who comes during one is in the next."""
        while self._asking is not None:
            await asyncio.shield(self._asking)
        if any(lease.asked for lease in self._leases.values()):
            self._asking = asyncio.create_task(self._ask_for_all())
            await asyncio.shield(self._asking)

    async def _ask_for_all(self) -> None:
        try:
            await self._exchange([lease for lease in self._leases.values() if lease.asked])
        finally:
            self._asking = None

    async def _exchange(self, leases: Sequence[Lease]) -> None:
        now_s = self._clock()
        grants = await self._store.exchange([lease.order(now_s) for lease in leases])
        for lease, grant in zip(leases, grants, strict=True):
            lease.absorb(grant, now_s)

    def _forget_unused(self, now_s: float) -> None:
        for name, lease in list(self._leases.items()):
            if not lease.held and not lease.owed and now_s - lease.touched_s > FORGET_S:
                del self._leases[name]
                self._freed.pop(name, None)
