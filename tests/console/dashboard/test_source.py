"""Against a real Redis: what is there at the first look, and what is new at each later one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from console.dashboard.source import RedisSource
from controlplane import redis_client
from controlplane.events import schema
from tests.controlplane import builders


@pytest.fixture
async def source(live_redis):
    found = RedisSource()
    yield found
    await found.close()


async def test_the_first_look_finds_the_state_and_the_recent_outcomes_in_order(source, live_redis):
    builders.report(live_redis, builders.status("a"), builders.status("b"))
    for state in ("copying", "done"):
        builders.report_outcome(live_redis, builders.outcome(state=state))
    reading = await source.read()
    assert set(reading.statuses) == {b"a", b"b"}
    assert [outcome.state for outcome in reading.outcomes] == ["copying", "done"]
    assert reading.loop is None


async def test_a_later_look_finds_only_new_outcomes_and_events(source, live_redis):
    builders.report_outcome(live_redis, builders.outcome("old"))
    await source.read()
    builders.report_outcome(live_redis, builders.outcome("new"))
    event = schema.InstanceChanged(at_s=1.0, instance_id="a", state="ready")
    live_redis.publish("llumdeck:events", schema.encode(event))
    reading = await source.read()
    assert [outcome.migration_id for outcome in reading.outcomes] == ["new"]
    assert reading.events == [event]
    later = await source.read()
    assert (later.outcomes, later.events) == ([], [])


async def test_an_empty_stream_does_not_hide_the_first_outcome(source, live_redis):
    await source.read()
    builders.report_outcome(live_redis, builders.outcome("first"))
    assert [outcome.migration_id for outcome in (await source.read()).outcomes] == ["first"]


async def test_what_cannot_be_read_is_counted_and_passed_over(source, live_redis):
    live_redis.xadd("llumdeck:migrations", {"outcome": b"\xc1"})
    builders.report_outcome(live_redis, builders.outcome("good"))
    live_redis.set("llumdeck:loop:status", b"{")
    await source.read()
    live_redis.publish("llumdeck:events", b"{}")
    reading = await source.read()
    assert reading.undecodable == 2
    first = RedisSource()
    assert [outcome.migration_id for outcome in (await first.read()).outcomes] == ["good"]
    await first.close()


async def test_a_redis_that_is_away_raises_and_the_next_look_connects_anew(source, live_redis, settings):
    url, settings.REDIS_URL = settings.REDIS_URL, "unix:///nowhere/redis.sock"
    with pytest.raises((redis_client.RedisError, OSError)):
        await source.read()
    await source.close()
    settings.REDIS_URL = url
    builders.report(live_redis, builders.status("a", reported_at_s=datetime.now(UTC).timestamp()))
    assert set((await source.read()).statuses) == {b"a"}
