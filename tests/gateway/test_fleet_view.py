"""Reports from a real Redis, from one that is away, and what they become."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import redis

from controlplane.gateway import fleet_view
from controlplane.gateway.fleet_view import FleetView, StatusFeed
from controlplane.gateway.links import Target
from controlplane.gateway.reporting import StatusPublisher
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import room_tokens
from engine_agents.messages import GatewayStatus, encode
from tests.gateway.test_routing import RULES, status

PATIENCE_S = 60.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)


def report() -> GatewayStatus:
    return GatewayStatus(
        gateway_id="gw",
        incarnation="i",
        pool="pool",
        url="",
        reported_at_s=0.0,
        open_streams=1,
        queued=0,
        per_class=[],
    )


def names(view: FleetView) -> list[str]:
    snapshot = view.snapshot(time.monotonic(), frozenset({"a", "b"}), RULES)
    return [instance.instance_id for instance in snapshot.instances]


class Following:
    def __init__(self) -> None:
        self.ledger = Ledger()
        self.view = FleetView("pool", "me", self.ledger)
        self.changes = 0
        feed = StatusFeed(self.view, time.monotonic, time.time, self._changed)
        self.task = asyncio.create_task(feed.run())

    def _changed(self) -> None:
        self.changes += 1


async def test_what_lies_there_is_read_and_what_is_published_follows(live_redis: redis.Redis) -> None:
    live_redis.hset("llumdeck:status", "a", encode(status("a", reported_at_s=time.time())))
    live_redis.hset("llumdeck:status", "x", encode(status("x", pool="another")))
    live_redis.hset("llumdeck:status", "broken", b"\xc1")
    following = Following()
    await until(lambda: names(following.view) == ["a"])
    assert following.view.redis_alive
    live_redis.publish("llumdeck:status", encode(status("b", seq=5, reported_at_s=time.time())))
    await until(lambda: names(following.view) == ["a", "b"])
    assert following.view.targets(time.monotonic()) == [
        Target("a", "tcp://a:5555", "i"),
        Target("b", "tcp://b:5555", "i"),
    ]
    following.task.cancel()


def test_what_is_published_takes_the_place_of_what_the_same_instance_said_before() -> None:
    """Each report is its instance's, whoever published in between."""
    view = FleetView("pool", "me", Ledger())
    lying = {name.encode(): encode(status(name, seq=1, data_endpoint="tcp://old:1")) for name in "ab"}
    view.absorb(lying, now_s=1.0, wall_s=1.0)
    for name in "aba":
        view.hear(encode(status(name, seq=2, data_endpoint="tcp://new:1")), now_s=1.1, wall_s=1.1)
    assert names(view) == ["a", "b"]
    assert {target.endpoint for target in view.targets(1.2)} == {"tcp://new:1"}


async def test_a_redis_that_is_away_is_asked_again_and_the_last_view_stays(
    live_redis: redis.Redis, settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_view, "RETRY_FIRST_S", 0.02)
    there = settings.REDIS_URL
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    live_redis.hset("llumdeck:status", "a", encode(status("a", reported_at_s=time.time())))
    following = Following()
    await asyncio.sleep(0.1)
    assert names(following.view) == [] and not following.view.redis_alive
    settings.REDIS_URL = there
    await until(lambda: names(following.view) == ["a"])
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    live_redis.client_kill_filter(_type="pubsub")
    await until(lambda: not following.view.redis_alive)
    assert names(following.view) == ["a"]
    settings.REDIS_URL = there
    await until(lambda: following.view.redis_alive)
    following.task.cancel()


def test_while_redis_is_away_an_instance_has_the_room_that_its_link_tells_of() -> None:
    ledger = Ledger()
    view = FleetView("pool", "me", ledger)
    view.absorb({b"a": encode(status("a", used_blocks=90, queued_blocks=9))}, now_s=1.0, wall_s=0.0)
    ledger.sent("a", 1, 50)
    view.heard("a", 320, 1)
    (instance,) = view.snapshot(2.0, frozenset({"a"}), RULES).instances
    assert room_tokens(instance, 0, 0.0) == 320 and ledger.in_flight("a") == (0, 0)
    ledger.sent("a", 2, 50)
    view.redis_alive = True
    view.heard("a", 16, 2)
    assert ledger.in_flight("a") == (50, 1), "reports say more than links"
    view.absorb({b"a": encode(status("a", seq=2, used_blocks=10))}, now_s=3.0, wall_s=0.0)
    view.redis_alive = False
    (instance,) = view.snapshot(4.0, frozenset({"a"}), RULES).instances
    assert instance.used_tokens == 10 * instance.block_size_tokens, "the last word, whoever said it"


def test_another_incarnation_starts_with_an_empty_ledger() -> None:
    ledger = Ledger()
    view = FleetView("pool", "me", ledger)
    view.absorb({b"a": encode(status("a"))}, now_s=1.0, wall_s=0.0)
    ledger.sent("a", 1, 50)
    view.absorb({b"a": encode(status("a", seq=1, incarnation="j"))}, now_s=2.0, wall_s=0.0)
    assert ledger.in_flight("a") == (0, 0)


def test_a_long_silent_instance_is_not_sought_while_redis_answers() -> None:
    view = FleetView("pool", "me", Ledger())
    view.absorb({b"a": encode(status("a"))}, now_s=1.0, wall_s=0.0)
    view.redis_alive = True
    later = 1.0 + fleet_view.LINK_TARGET_LIMIT_S + 1
    assert view.targets(later) == []
    view.redis_alive = False
    assert len(view.targets(later)) == 1


async def test_the_gateways_report_is_published_and_withdrawn(live_redis: redis.Redis) -> None:
    task = asyncio.create_task(StatusPublisher("gw", report).run())
    await until(lambda: live_redis.hget("llumdeck:gateways", "gw") == encode(report()))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert live_redis.hgetall("llumdeck:gateways") == {}


async def test_reports_into_the_void_do_no_harm(settings) -> None:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    task = asyncio.create_task(StatusPublisher("gw", report).run())
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
