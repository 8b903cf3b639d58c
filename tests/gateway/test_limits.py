"""Counted in common by several gateways to the unit, by Redis or without it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.gateway.envelope import Envelope
from controlplane.gateway.limits import refusals, steady_store, terms
from controlplane.gateway.limits.book import BEAT_S, IDLE_S, Demand, LimitBook
from controlplane.gateway.limits.redis_store import RedisStore
from controlplane.gateway.limits.steady_store import SteadyStore
from controlplane.gateway.limits.store import HOLDER_TTL_S, Grant, LocalStore, Order, StoreError
from controlplane.tenancy.types import LimitTerms


class Common:
    """One store that several gateways share, each under its name, and that counts questions."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = LocalStore(lambda: self.now)
        self.questions = 0

    def seen_by(self, holder: str) -> Common.View:
        return Common.View(self, holder)

    class View:
        def __init__(self, common: Common, holder: str) -> None:
            self._common, self._holder = common, holder

        async def exchange(self, orders: Sequence[Order]) -> list[Grant]:
            common = self._common
            common.questions += 1
            await asyncio.sleep(0)
            return [common.store.carry_out(order, self._holder, common.now) for order in orders]

    def books(self, count: int) -> list[LimitBook]:
        return [LimitBook(self.seen_by(f"g{number}"), lambda: self.now) for number in range(count)]


def rate(limit: int, amount: float = 1.0, name: str = "requests:t") -> Demand:
    return Demand("rate", name, limit, amount, "tenant.requests_per_minute")


def slot(limit: int, name: str = "open:t") -> Demand:
    return Demand("slots", name, limit, 1.0, "tenant.concurrent_requests")


async def taken(books: Sequence[LimitBook], demand: Demand, times: int) -> int:
    """How many of ``times`` requests at each gateway are let in, all at once."""
    answers = await asyncio.gather(*(book.take([demand]) for book in books for _ in range(times)))
    return answers.count(None)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.integers(1, 80))
def test_many_gateways_never_let_in_more_than_the_limit_and_never_less(limit, gateways, times) -> None:
    async def scene() -> int:
        return await taken(Common().books(gateways), rate(limit), times)

    assert asyncio.run(scene()) == min(limit, gateways * times)


async def test_a_minute_brings_a_minutes_allowance() -> None:
    common = Common()
    books = common.books(3)
    let_in = 0
    for _ in range(600):  # a minute in steps of 0.1 s, always asking for far more than is allowed
        common.now += 0.1
        let_in += await taken(books, rate(600), 5)
    assert 1190 <= let_in <= 1200  # the bucket's 600, and 600 that came meanwhile


async def test_a_busy_limit_costs_few_questions_and_a_small_one_is_exact() -> None:
    common = Common()
    (book,) = common.books(1)
    for _ in range(2000):
        assert await book.take([rate(60_000)]) is None
    assert common.questions < 20


async def test_what_one_gateway_leased_and_does_not_use_comes_back() -> None:
    common = Common()
    one, other = common.books(2)
    for _ in range(5):
        await one.take([rate(1200)])
    tending = asyncio.create_task(one.tend())
    common.now += IDLE_S
    await asyncio.sleep(0.6)
    tending.cancel()
    assert await taken([other], rate(1200), 1300) >= 1195


async def test_slots_are_held_by_all_gateways_together() -> None:
    books = Common().books(3)
    assert await taken(books, slot(10), 9) == 10
    books[0].give_back([slot(10)] * 3)
    assert await taken(books[:1], slot(10), 9) == 3


async def test_a_slot_freed_here_can_be_taken_there_at_once() -> None:
    common = Common()
    one, other = common.books(2)
    assert await one.take([slot(1)]) is None
    assert await other.take([slot(1)]) is not None
    one.give_back([slot(1)])
    tending = asyncio.create_task(one.tend())
    for _ in range(100):
        if await other.take([slot(1)]) is None:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("the slot never became free")
    tending.cancel()


async def test_the_slots_of_a_dead_gateway_are_free_after_a_while() -> None:
    common = Common()
    dead, other = common.books(2)
    assert await dead.take([slot(1)]) is None
    common.now += HOLDER_TTL_S - 0.1
    assert await other.take([slot(1)]) is not None
    common.now += 0.2
    assert await other.take([slot(1)]) is None


async def test_a_living_gateway_keeps_its_slots_however_long_and_through_an_emptied_store() -> None:
    common = Common()
    one, other = common.books(2)
    assert await one.take([slot(1)]) is None
    tending = asyncio.create_task(one.tend())
    for _ in range(3):
        common.store._slots.clear()
        questions = common.questions
        common.now += BEAT_S
        while common.questions == questions:  # noqa: ASYNC110 - the book's own pace
            await asyncio.sleep(0.05)
        assert await other.take([slot(1)]) is not None
    tending.cancel()


async def test_a_limit_that_is_raised_counts_at_once() -> None:
    (book,) = Common().books(1)
    assert await taken([book], slot(2), 5) == 2
    assert await taken([book], slot(4), 5) == 2


async def test_leases_nobody_uses_are_forgotten() -> None:
    common = Common()
    (book,) = common.books(1)
    for number in range(50):
        await book.take([rate(10, name=f"requests:{number}")])
    common.now += 1000.0
    book._forget_unused(common.now)
    assert not book._leases


# ---------------------------------------------------------------- Redis


async def test_redis_does_exactly_what_the_model_does(live_redis) -> None:
    """The script against :class:`LocalStore`, on the moments that Redis itself used."""
    draw = random.Random(7)
    model = LocalStore(time.monotonic)
    stores = {name: RedisStore(name) for name in ("g1", "g2")}
    for _ in range(300):
        holder = draw.choice(list(stores))
        if draw.random() < 0.5:
            need = float(draw.randint(0, 3))
            order = Order(
                "rate", "r", 60_000_000, need, need + draw.randint(0, 5), float(draw.randint(-5, 3))
            )
        else:
            need = float(draw.randint(0, 2))
            order = Order("slots", "s", 12, need, need + draw.randint(0, 3), float(draw.randint(0, 5)))
        (told,) = await stores[holder].exchange([order])
        expected = model.carry_out(order, holder, time.monotonic())
        assert told.granted == expected.granted
        assert told.left == pytest.approx(expected.left, abs=0.5)  # a second's refill
    assert stores["g1"].gateways == 2
    for store in stores.values():
        await store.close()


async def test_redis_refills_by_its_own_clock(live_redis) -> None:
    store = RedisStore("g")
    (first,) = await store.exchange([Order("rate", "r", 600, 600.0, 600.0)])
    (none,) = await store.exchange([Order("rate", "r", 600, 5.0, 5.0)])
    assert (first.granted, none.granted) == (600.0, 0.0)
    assert 0.0 < none.wait_s <= 0.5
    await asyncio.sleep(none.wait_s + 0.05)
    (again,) = await store.exchange([Order("rate", "r", 600, 5.0, 5.0)])
    assert again.granted == 5.0
    assert 0 < live_redis.pttl("llumdeck:limits:rate:r") <= 180_000
    await store.close()


async def test_a_redis_that_was_emptied_and_knows_no_script_goes_on(live_redis) -> None:
    store = RedisStore("g")
    await store.exchange([Order("slots", "s", 5, 2.0, 2.0, 0.0)])
    live_redis.flushall()
    live_redis.script_flush()
    (told,) = await store.exchange([Order("slots", "s", 5, 1.0, 1.0, 2.0)])
    assert (told.granted, told.left) == (1.0, 2.0)  # what it holds is said anew every time
    await store.close()


async def test_a_redis_that_is_not_there_is_an_error_of_its_own_kind(settings) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    store = RedisStore("g")
    for _ in range(2):
        with pytest.raises(StoreError):
            await store.exchange([Order("rate", "r", 5, 1.0, 1.0)])


async def test_three_gateways_on_one_redis_keep_a_limit_to_the_unit(live_redis) -> None:
    books = [LimitBook(RedisStore(f"g{number}"), time.monotonic) for number in range(3)]
    assert await taken(books, rate(1), 4) == 1
    assert await taken(books, slot(25), 20) == 25
    for book in books:
        await book._store.close()  # type: ignore[attr-defined]


# ---------------------------------------------------------------- without Redis


class Flaky:
    """The common counters, that can be away."""

    gateways = 2

    def __init__(self, common: Common) -> None:
        self._view = common.seen_by("g")
        self.away = False
        self.tries = 0

    async def exchange(self, orders: Sequence[Order]) -> list[Grant]:
        self.tries += 1
        if self.away:
            raise StoreError("ConnectionError")
        return await self._view.exchange(orders)


async def test_while_the_counters_are_away_each_gateway_counts_its_share_and_returns_by_itself() -> None:
    common = Common()
    flaky = Flaky(common)
    store = SteadyStore(flaky, lambda: common.now)  # type: ignore[arg-type]
    book = LimitBook(store, lambda: common.now)
    assert await taken([book], rate(10), 4) == 4
    flaky.away = True
    assert await taken([book], rate(10), 20) == 5 and not store.common
    tries = flaky.tries
    await taken([book], rate(10), 20)
    assert flaky.tries == tries  # it is not asked for every request
    flaky.away = False
    common.now += steady_store.RETRY_S
    assert await taken([book], rate(10), 20) == 6 and store.common


async def test_a_redis_that_stands_still_costs_one_short_wait(live_redis, monkeypatch) -> None:
    store = SteadyStore(RedisStore("g"), time.monotonic)
    book = LimitBook(store, time.monotonic)
    assert await book.take([rate(100)]) is None
    live_redis.execute_command("CLIENT", "PAUSE", "1500")
    assert await book.take([rate(100)]) is None
    assert not store.common
    deadline = time.monotonic() + 60
    while not store.common and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        await book.take([rate(100)])
    assert store.common
    await store.close()


# ---------------------------------------------------------------- demands of a request, words to a client


def test_only_limits_of_the_class_served_bind() -> None:
    limits = (LimitTerms("tenant", "tenant:1"), LimitTerms("class", "class:batch", "batch"))
    assert [each.subject for each in terms.binding(limits, "standard")] == ["tenant:1"]
    assert len(terms.binding(limits, "batch")) == 2


@pytest.mark.parametrize(
    ("envelope", "tokens"),
    [
        (Envelope(body_bytes=400, max_tokens=50), 151),
        (Envelope(body_bytes=400), 101 + 256),
        (Envelope(body_bytes=0, max_tokens=50_000), 1 + 256),
        (Envelope(body_bytes=0, max_tokens=10, choices=4), 1 + 40),
        (Envelope(body_bytes=0, max_tokens=-5), 1),
    ],
)
def test_how_much_is_set_aside(envelope: Envelope, tokens: int) -> None:
    assert terms.set_aside_tokens(envelope) == tokens


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0ms"), (0.85, "850ms"), (7.5, "7.5s"), (60.0, "1m0s"), (372.0, "6m12s")]
)
def test_times_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert refusals.span(seconds) == text


def test_a_refusal_says_which_limit_how_much_and_when_again() -> None:
    error = refusals.limit_reached("key.tokens_per_minute", 1000, 2.4)
    assert error.status == 429 and "1000 tokens per minute" in error.message and "2.4 s" in error.message
    headers = dict(error.headers)
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"3", b"2400")
    assert headers[b"x-ratelimit-limit-name"] == b"key.tokens_per_minute"
