from __future__ import annotations

import time

from controlplane.gateway.envelope import Envelope
from controlplane.gateway.limits import terms
from controlplane.gateway.limits.book import LimitBook
from controlplane.gateway.limits.redis_store import RedisStore
from controlplane.tenancy.limit_use import counter_name, limit_use
from controlplane.tenancy.types import LimitTerms

LIMITS = (
    LimitTerms("tenant", "tenant:1", requests_per_minute=100, tokens_per_minute=1000, queue_seconds=2.0),
    LimitTerms("key in class", "key:2:batch", "batch", concurrent_requests=10),
)


def test_nothing_is_used_before_anybody_came(live_redis):
    assert [(each.limit_name, each.used) for each in limit_use(LIMITS)] == [
        ("requests_per_minute", 0.0),
        ("tokens_per_minute", 0.0),
        ("queue_seconds", None),
        ("concurrent_requests", 0.0),
    ]


async def test_what_gateways_count_is_what_people_see(live_redis):
    books = [LimitBook(RedisStore(f"g{number}"), time.monotonic) for number in range(2)]
    demands = terms.needs(LIMITS, Envelope(body_bytes=396, max_tokens=100)).demands
    for book in (*books, books[0]):
        assert await book.take(demands) is None
    used = {each.limit_name: each.used for each in limit_use(LIMITS)}
    assert used["concurrent_requests"] == 3.0
    assert 2.5 < used["requests_per_minute"] <= 3.0
    assert 550 < used["tokens_per_minute"] <= 620  # what is leased ahead counts as used
    for book in books:
        await book._store.close()  # type: ignore[attr-defined]


def test_without_redis_nothing_is_known(settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    assert {each.used for each in limit_use(LIMITS)} == {None}


def test_counters_are_named_alike_by_gateways_and_console():
    named = {demand.name for demand in terms.needs(LIMITS, Envelope()).demands}
    assert named == {
        counter_name("requests_per_minute", "tenant:1"),
        counter_name("tokens_per_minute", "tenant:1"),
        counter_name("concurrent_requests", "key:2:batch"),
    }
