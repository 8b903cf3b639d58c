"""Under which class a request is served, and whether it is let in now."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from controlplane.gateway.abuse import EVERY_S, AbuseLog
from controlplane.gateway.admission import Admission, Ticket, caller_for
from controlplane.gateway.body import ClientGoneError
from controlplane.gateway.envelope import Envelope, RefusedError
from controlplane.gateway.limits.book import LimitBook
from controlplane.gateway.limits.store import LocalStore
from controlplane.tenancy.types import KeyIdentity, LimitTerms
from tests.gateway.identities import identity


@pytest.mark.parametrize(
    ("allowed", "own", "tier", "asked", "served"),
    [
        (("interactive", "standard", "batch"), "standard", "", "", "standard"),
        (("interactive", "standard", "batch"), "standard", "priority", "interactive", "interactive"),
        (("interactive", "standard", "batch"), "standard", "flex", "batch", "batch"),
        (("standard", "batch"), "standard", "priority", "interactive", "standard"),
        (("batch",), "batch", "priority", "interactive", "batch"),
        (("interactive",), "interactive", "flex", "batch", "interactive"),
        (("interactive", "standard", "batch"), "standard", "auto", "", "standard"),
        (("interactive", "standard", "batch"), "standard", "no such tier", "", "standard"),
    ],
)
def test_a_request_may_lower_its_class_and_never_exceed_what_its_key_allows(
    allowed, own, tier, asked, served
) -> None:
    caller = caller_for(identity(own, allowed), tier)
    assert (caller.asked_class, caller.slo_class) == (asked, served)
    assert caller.rank == caller.identity.class_rules[served].rank


@pytest.mark.parametrize(
    ("tier", "priority", "served", "rule"),
    [
        ("", 0, "standard", "default"),
        ("", 1, "batch", "priority"),
        ("", 99, "batch", "priority"),
        ("", -99, "standard", "default"),
        ("priority", 0, "interactive", "asked"),
        ("priority", 1, "standard", "priority"),
        ("priority", 2, "batch", "priority"),
        ("flex", 5, "batch", "asked"),
    ],
)
def test_vllms_priority_only_ever_lowers(tier: str, priority: int, served: str, rule: str) -> None:
    caller = caller_for(identity(), tier, priority)
    assert (caller.slo_class, caller.rule) == (served, rule)


def test_the_tier_of_the_class_served_is_echoed() -> None:
    assert caller_for(identity("standard", ("standard", "batch")), "priority").tier == "default"
    assert caller_for(identity(), "flex").tier == "flex"


@pytest.mark.parametrize(
    ("allowed", "tier", "priority", "excess"),
    [
        (("standard", "batch"), "priority", 0, "interactive"),
        (("standard", "batch"), "flex", 0, ""),
        (("standard", "batch"), "", -5, "a better priority"),
        (("interactive", "standard"), "flex", 0, ""),
    ],
)
def test_a_wish_beyond_the_rights_is_noticed(allowed, tier: str, priority: int, excess: str) -> None:
    assert caller_for(identity("standard", allowed), tier, priority).excess == excess


class Gate:
    """An admission whose clock the test turns; keys are not asked."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.book = LimitBook(LocalStore(lambda: self.now), lambda: self.now)
        self.abuse = AbuseLog(lambda: self.now)
        self.admission = Admission(None, self.book, self.abuse, lambda: self.now)  # type: ignore[arg-type]

    async def admit(self, who: KeyIdentity, **asked: Any) -> Ticket:
        return await self.admission.admit(who, Envelope(**asked))

    async def refusal(self, who: KeyIdentity, **asked: Any):
        with pytest.raises(RefusedError) as caught:
            await self.admit(who, **asked)
        return caught.value.error


@pytest.fixture
def gate() -> Gate:
    return Gate()


def limited(slo_class: str = "", scope: str = "tenant", **limits: Any) -> KeyIdentity:
    subject = f"{scope}:1:{slo_class}"
    return replace(identity(), limits=(LimitTerms(scope, subject, slo_class, **limits),))


async def test_who_asks_for_too_much_is_served_lower_and_noted(gate: Gate) -> None:
    who = identity("standard", ("standard", "batch"))
    for _ in range(3):
        assert (await gate.admit(who, service_tier="priority")).caller.slo_class == "standard"
    (excess,) = gate.abuse.take()
    assert (excess.asked, excess.served, excess.times) == ("interactive", "standard", 3)


async def test_where_the_tenant_wants_it_so_too_much_is_a_403(gate: Gate) -> None:
    who = replace(identity("standard", ("standard", "batch")), refuse_above_maximum=True)
    error = await gate.refusal(who, service_tier="priority")
    assert (error.status, error.code, error.param) == (403, "class_not_allowed", "service_tier")
    assert "standard" in error.message
    assert gate.abuse.take()[0].served == ""


async def test_wishes_beyond_rights_are_told_in_numbers_once_a_minute(gate: Gate) -> None:
    who = identity("batch", ("batch",))
    await gate.admit(who, service_tier="priority")
    assert [each.times for each in gate.abuse.take()] == [1]
    for _ in range(500):
        await gate.admit(who, service_tier="priority")
    assert gate.abuse.take() == []
    gate.now += EVERY_S
    (excess,) = gate.abuse.take()
    assert excess.times == 500
    gate.abuse.put_back([excess])
    assert [each.times for each in gate.abuse.take()] == [500]
    gate.now += EVERY_S
    assert gate.abuse.take() == [] and not gate.abuse._groups


async def test_requests_per_minute_are_let_in_to_the_last_one(gate: Gate) -> None:
    who = limited(requests_per_minute=3)
    for _ in range(3):
        (await gate.admit(who)).close()
    error = await gate.refusal(who)
    assert (error.status, error.code, error.param) == (
        429,
        "rate_limit_exceeded",
        "tenant.requests_per_minute",
    )
    assert dict(error.headers)[b"retry-after"] == b"20"
    gate.now += 20.0
    await gate.admit(who)


async def test_tokens_are_set_aside_first_and_settled_afterwards(gate: Gate) -> None:
    who = limited(tokens_per_minute=600)
    ticket = await gate.admit(who, max_tokens=100, body_bytes=396)  # 100 for the prompt, 100 for the output
    assert dict(ticket.headers)[b"x-ratelimit-remaining-tokens"] == b"400"
    ticket.note_tokens(90, 10)
    ticket.close()
    again = await gate.admit(who, max_tokens=100, body_bytes=396)
    assert dict(again.headers)[b"x-ratelimit-remaining-tokens"] == b"300"


async def test_who_used_more_than_was_set_aside_is_in_debt(gate: Gate) -> None:
    who = limited(tokens_per_minute=600)
    ticket = await gate.admit(who, max_tokens=10, body_bytes=0)
    ticket.close()
    ticket.note_tokens(1, 1190)  # the engine's last word comes after the client has gone
    error = await gate.refusal(who, max_tokens=10, body_bytes=0)
    assert error.param == "tenant.tokens_per_minute"
    assert 55 < error.retry_after_s < 65
    gate.now += 65.0
    await gate.admit(who, max_tokens=10, body_bytes=0)


async def test_one_request_larger_than_a_minutes_tokens_is_served_from_a_full_bucket(gate: Gate) -> None:
    who = limited(tokens_per_minute=100)
    await gate.admit(who, max_tokens=5000, body_bytes=40_000)
    assert (await gate.refusal(who, max_tokens=1, body_bytes=4)).status == 429


async def test_a_slot_is_free_again_when_the_answer_is_over(gate: Gate) -> None:
    who = limited(concurrent_requests=2)
    first, _ = await gate.admit(who), await gate.admit(who)
    assert (await gate.refusal(who)).param == "tenant.concurrent_requests"
    first.close()
    first.close()
    await gate.admit(who)
    assert (await gate.refusal(who)).param == "tenant.concurrent_requests"


async def test_where_waiting_is_allowed_a_request_waits_for_its_slot_in_order(gate: Gate) -> None:
    who = limited(concurrent_requests=1, queued_requests=2)
    held = await gate.admit(who)
    served: list[int] = []

    async def wait(number: int) -> None:
        ticket = await gate.admit(who)
        served.append(number)
        await asyncio.sleep(0)
        ticket.close()

    waiting = [asyncio.create_task(wait(number)) for number in range(2)]
    await asyncio.sleep(0.01)
    assert gate.admission.waiting == 2
    assert (await gate.refusal(who)).param == "tenant.queued_requests"
    held.close()
    await asyncio.gather(*waiting)
    assert served == [0, 1] and gate.admission.waiting == 0


async def test_who_waits_too_long_for_a_slot_is_told_so(gate: Gate) -> None:
    who = limited(concurrent_requests=1, queued_requests=5, queue_seconds=3.0)
    await gate.admit(who)
    waiting = asyncio.create_task(gate.refusal(who))
    await asyncio.sleep(0.01)
    gate.now += 3.0
    gate.book._freed["open:tenant:1:"].set()
    assert (await waiting).param == "tenant.queue_seconds"


async def test_who_leaves_while_waiting_for_a_slot_makes_room_at_once(gate: Gate) -> None:
    who = limited(concurrent_requests=1, queued_requests=1)
    held, left = await gate.admit(who), asyncio.Event()

    async def gone() -> None:
        await left.wait()

    waiting = asyncio.create_task(gate.admission.admit(who, Envelope(), gone))
    await asyncio.sleep(0.01)
    assert gate.admission.waiting == 1
    left.set()
    with pytest.raises(ClientGoneError):
        await waiting
    assert gate.admission.waiting == 0
    held.close()
    (await gate.admit(who)).close()


async def test_a_limit_of_a_class_binds_requests_of_that_class_only(gate: Gate) -> None:
    who = limited(slo_class="batch", requests_per_minute=1)
    for _ in range(5):
        await gate.admit(who)
    await gate.admit(who, service_tier="flex")
    error = await gate.refusal(who, service_tier="flex")
    assert error.param == "tenant in class batch.requests_per_minute"


async def test_the_tightest_limit_is_the_one_in_the_headers(gate: Gate) -> None:
    loose = LimitTerms("tenant", "tenant:1", requests_per_minute=100)
    tight = LimitTerms("key", "key:1", requests_per_minute=10)
    ticket = await gate.admit(replace(identity(), limits=(loose, tight)))
    headers = dict(ticket.headers)
    assert headers[b"x-ratelimit-limit-requests"] == b"10"
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert headers[b"x-ratelimit-reset-requests"] == b"6s"


async def test_nothing_is_taken_of_any_limit_when_one_refuses(gate: Gate) -> None:
    loose = LimitTerms("tenant", "tenant:1", requests_per_minute=10)
    tight = LimitTerms("key", "key:1", requests_per_minute=1)
    who = replace(identity(), limits=(loose, tight))
    await gate.admit(who)
    for _ in range(20):
        await gate.refusal(who)
    other = replace(identity(), limits=(loose,))
    for _ in range(9):
        await gate.admit(other)
    await gate.refusal(other)


async def test_no_client_can_fill_the_audit_list_by_varying_its_wish(gate: Gate) -> None:
    for number in range(1, 300):
        await gate.admit(identity(), priority=-number, service_tier=f"tier-{number}")
    (excess,) = gate.abuse.take()
    assert (excess.asked, excess.times) == ("a better priority", 299)
