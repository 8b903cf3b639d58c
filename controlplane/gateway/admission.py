"""Under which class a request is served, and whether it is let in now.

The door asks :class:`Admission` once per request; what it gets is a :class:`Ticket`,
which it closes when the answer is over.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from controlplane.gateway.abuse import AbuseLog
from controlplane.gateway.body import ClientGoneError
from controlplane.gateway.envelope import Envelope, RefusedError
from controlplane.gateway.errors import ApiError
from controlplane.gateway.heading import Heading
from controlplane.gateway.keys import KeyCache
from controlplane.gateway.limits import refusals
from controlplane.gateway.limits import terms as limit_terms
from controlplane.gateway.limits.book import Demand, LimitBook, Shortage
from controlplane.gateway.limits.refusals import Headers
from controlplane.gateway.limits.terms import Needs
from controlplane.tenancy.types import ClassTerms, KeyIdentity, LimitTerms
from engine_agents.vllm_engine.frontend_port import Scope

SCOPES = {
    "/v1/models": "models",
    "/tokenize": "tokenize",
    "/detokenize": "tokenize",
    "/v1/messages/count_tokens": "tokenize",
}
"""What a key must be allowed for a path; ``inference`` for all others."""

Gone = Callable[[], Awaitable[None]]
"""Returns when the client has left."""


async def never_gone() -> None:
    """Of a client that is not watched."""
    await asyncio.Event().wait()


@dataclass(slots=True)
class Caller:
    """Whom a request is served for, and as what. Never changed, only replaced."""

    identity: KeyIdentity
    asked_class: str
    """Empty when the client named none."""
    slo_class: str
    rank: int
    rule: str = "default"
    """Why that class: ``default``, ``asked``, ``priority``, ``lowered``, ``boost``, ``reclassified``."""
    service_tier: str = ""
    """As the client wrote it …"""
    priority: int = 0
    """… and vLLM's ``priority``; both are kept to settle the class again when rights change."""

    @property
    def limits(self) -> tuple[LimitTerms, ...]:
        """That bind this request."""
        limits = self.identity.limits
        return limit_terms.binding(limits, self.slo_class) if limits else ()

    @property
    def tier(self) -> str:
        """OpenAI's name of the class served: echoed to the client."""
        rule = self.identity.class_rules.get(self.slo_class)
        return (rule.service_tier if rule else "") or "default"

    @property
    def excess(self) -> str:
        """What the client asked for beyond its rights; empty when it did not."""
        if self.rule == "lowered":
            return self.asked_class
        # Without its number: each would be an entry of its own in the audit list.
        return "a better priority" if self.priority < 0 else ""


def caller_for(identity: KeyIdentity, service_tier: str, priority: int = 0) -> Caller:
    """The class served: what the client asked for where its key allows that, never more than it allows.

    ``service_tier`` maps to the class that carries its name; ``auto``, unknown and empty
    tiers mean the key's own class. A tier above what is allowed is lowered to the best
    allowed class below it. vLLM's ``priority`` above zero goes so many ranks down from
    there; below zero it would go up, and does nothing.
    """
    rules = identity.class_rules
    asked = _class_of(service_tier, rules) if service_tier else ""
    served = _allowed(identity, rules[asked].rank) if asked else identity.slo_class
    rule = "default"
    if asked:
        rule = "lowered" if rules[served].rank > rules[asked].rank else "asked"
    elif identity.boosted_until is not None:
        rule = "boost"
    if priority > 0 and served in rules:
        lower = _allowed(identity, rules[served].rank + priority)
        served, rule = (lower, "priority") if lower != served else (served, rule)
    terms = rules.get(served)
    rank = terms.rank if terms is not None else 1
    return Caller(identity, asked, served, rank, rule, service_tier, priority)


def _class_of(service_tier: str, rules: Mapping[str, ClassTerms]) -> str:
    """Empty where no class carries that name."""
    return next((name for name, rule in rules.items() if rule.service_tier == service_tier), "")


def _allowed(identity: KeyIdentity, rank: int) -> str:
    """The best allowed class that is not better than ``rank``; the lowest allowed where there is none."""
    rules = identity.class_rules
    known = [name for name in identity.allowed_classes if name in rules]
    lower = [name for name in known if rules[name].rank >= rank]
    if lower:
        return min(lower, key=lambda name: rules[name].rank)
    return max(known, key=lambda name: rules[name].rank, default=identity.slo_class)


def class_refused(asked: str, allowed: tuple[str, ...]) -> ApiError:
    return ApiError(
        403,
        "class_not_allowed",
        f"This API key may not ask for the class {asked!r}; it may ask for: {', '.join(allowed)}.",
        "service_tier",
    )


def scope_missing(scope: str) -> ApiError:
    return ApiError(403, "scope_not_allowed", f"This API key lacks the scope {scope!r}.")


class Ticket:
    """A request that was let in. ``close()`` gives back what it held and settles what it used."""

    __slots__ = ("_book", "_closed", "_demands", "_used", "caller", "headers", "waited_s")

    def __init__(self, caller: Caller, book: LimitBook, demands: tuple[Demand, ...], waited_s: float) -> None:
        self.caller = caller
        self.waited_s = waited_s
        """At the gate, for a slot."""
        self._book, self._demands = book, demands
        self._used = 0
        self._closed = False
        self.headers: Headers = [
            (b"x-slo-class", caller.slo_class.encode()),
            (b"x-service-tier", caller.tier.encode()),
        ]
        if demands:
            self.headers += refusals.rate_headers(demands, book)

    def note_tokens(self, prompt_tokens: int, output_tokens: int) -> None:
        """A request of this call is over; may come after ``close()``."""
        used = prompt_tokens + output_tokens
        self._used += used
        if self._closed:
            self._settle(lambda _: -used)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._book.give_back([demand for demand in self._demands if demand.kind == "slots"])
        self._settle(lambda set_aside: set_aside - self._used)

    def _settle(self, unused: Callable[[float], float]) -> None:
        for demand in self._demands:
            if demand.name.startswith("tokens:"):
                self._book.settle(demand, unused(demand.amount))


class Admission:
    """Who calls, as what, and whether now. On the event loop."""

    def __init__(self, keys: KeyCache, book: LimitBook, abuse: AbuseLog, clock: Callable[[], float]) -> None:
        self._keys, self._book, self._abuse, self._clock = keys, book, abuse, clock
        self._at_gate: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """By the limit's title."""

    @property
    def waiting(self) -> int:
        """Requests that wait at the gate for a slot."""
        return sum(self._at_gate.values())

    async def identify(self, scope: Scope, heading: Heading) -> KeyIdentity:
        """Raises :class:`RefusedError` (401, 403, 503)."""
        identity = self._keys.authenticate_known(scope, heading)
        if identity is None:
            identity = await self._keys.authenticate(scope, heading)
        needed = SCOPES.get(scope["path"], "inference")
        if needed not in identity.scopes:
            raise RefusedError(scope_missing(needed))
        return identity

    async def admit(
        self, identity: KeyIdentity, envelope: Envelope | None, gone: Gone = never_gone
    ) -> Ticket:
        """Let a request in; waits for a slot where the limits let it, unless its client leaves.

        Without ``envelope`` (nothing is asked of the model) no limit counts it. Raises
        :class:`RefusedError`, :class:`ClientGoneError`.
        """
        if envelope is None:
            return Ticket(caller_for(identity, ""), self._book, (), 0.0)
        caller = caller_for(identity, envelope.service_tier, envelope.priority)
        if caller.excess:
            refuse = identity.refuse_above_maximum and caller.rule == "lowered"
            self._abuse.note(caller, refused=refuse)
            if refuse:
                raise RefusedError(class_refused(caller.asked_class, identity.allowed_classes))
        limits = caller.limits
        if not limits:
            return Ticket(caller, self._book, (), 0.0)
        needs = limit_terms.needs(limits, envelope)
        arrived_s = self._clock()
        short = await self._take(needs, gone)
        if short is not None:
            self.refused[short.demand.title] += 1
            raise RefusedError(refusals.shortage(short, refusals.rate_headers(needs.demands, self._book)))
        return Ticket(caller, self._book, needs.demands, self._clock() - arrived_s)

    async def _take(self, needs: Needs, gone: Gone) -> Shortage | None:
        slots = [demand for demand in needs.demands if demand.kind == "slots"]
        crowded = any(self._at_gate[demand.name] for demand in slots)
        short = await self._book.take(needs.demands) if not crowded else Shortage(slots[0], 1.0)
        if short is None or short.demand.kind != "slots" or not needs.gate_limit:
            return short
        if self._at_gate[short.demand.name] >= needs.gate_limit:
            full = replace(short.demand, title=short.demand.title.rpartition(".")[0] + ".queued_requests")
            return Shortage(replace(full, limit=needs.gate_limit), short.wait_s)
        return await self._wait(needs, short, gone)

    async def _wait(self, needs: Needs, short: Shortage, gone: Gone) -> Shortage | None:
        """In line for a slot; those who came first are woken first."""
        name = short.demand.name
        deadline_s = self._clock() + needs.gate_limit_s
        leaving = asyncio.ensure_future(gone())
        self._at_gate[name] += 1
        try:
            while (left_s := deadline_s - self._clock()) > 0.0:
                waiting = asyncio.ensure_future(self._book.wait_for_slot(short.demand, left_s))
                await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if leaving.done():
                    raise ClientGoneError
                now_short = await self._book.take(needs.demands)
                if now_short is None or now_short.demand.kind != "slots":
                    return now_short
        finally:
            leaving.cancel()
            self._at_gate[name] -= 1
            if not self._at_gate[name]:
                del self._at_gate[name]
        late = replace(short.demand, title=short.demand.title.rpartition(".")[0] + ".queue_seconds")
        return Shortage(replace(late, limit=int(needs.gate_limit_s)), short.wait_s)
