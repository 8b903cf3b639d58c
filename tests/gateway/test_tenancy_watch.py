"""What is written about tenants reaches a gateway: by events, and without them a little later."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.events import publish
from controlplane.events.schema import AuditAdded, TenancyChanged, TenantClassChanged
from controlplane.gateway.abuse import AbuseLog
from controlplane.gateway.admission import caller_for
from controlplane.gateway.entries import Entry
from controlplane.gateway.keys import KeyCache
from controlplane.gateway.live_requests import Call, LiveRequest
from controlplane.gateway.tenancy_watch import EventFeed, TenancyPorts, TenancyWatch
from controlplane.tenancy.types import KeyIdentity
from engine_agents.vllm_engine.frontend_port import NewRequest
from tests.gateway.identities import identity

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """Live requests of tenants, keys and a database that may be away."""

    def __init__(self) -> None:
        self.lives: list[LiveRequest] = []
        self.served: list[tuple[str, str]] = []
        self.classes = {"interactive", "standard", "batch"}
        self.rights: dict[int, KeyIdentity] = {}
        self.broken = False
        self.told: list[Any] = []
        self.keys = KeyCache(lambda raw, now: None, lambda: 0.0, lambda: NOW)
        self.abuse = AbuseLog(lambda: 0.0)
        ports = TenancyPorts(self.rights_of, self.note, self.note, lambda hear: asyncio.sleep(0))
        self.watch = TenancyWatch(self.keys, self.abuse, self, ports, lambda: NOW)

    def live(self, who: KeyIdentity, *, tier: str = "", priority: int = 0, age_s: float = 10.0) -> str:
        name = f"r{len(self.lives)}"
        call = Call(name, caller_for(who, tier, priority), 0.0, NOW - timedelta(seconds=age_s))
        self.lives.append(
            LiveRequest(NewRequest(name, b"", 5, 5, gap_closable=True), call, Entry(name, True))
        )
        return name

    def rights_of(self, key_id: int, now: datetime) -> KeyIdentity | None:
        if self.broken:
            raise OSError("the database is away")
        return self.rights.get(key_id)

    def note(self, items: Any) -> None:
        if self.broken:
            raise OSError("the database is away")
        self.told += items

    def matching(self, chosen: Any) -> list[LiveRequest]:
        return [live for live in self.lives if chosen(live)]

    def knows_class(self, slo_class: str) -> bool:
        return slo_class in self.classes

    def serve_as(self, live: LiveRequest, slo_class: str) -> None:
        self.served.append((live.request_id, slo_class))

    def end(self, live: LiveRequest, give_up: Any) -> None:
        raise AssertionError


@pytest.fixture
def world():
    made = World()
    yield made
    made.keys.close()


async def test_running_requests_of_the_tenant_follow_its_new_rights_once(world: World) -> None:
    mine, other = identity(), replace(identity(), tenant_id=2, key_id=22)
    first, flex = world.live(mine), world.live(mine, tier="flex")
    world.live(other)
    world.live(mine, age_s=-1.0)  # it came after that was asked
    world.rights = {11: identity("interactive")}
    await world.watch.follow_rights({1: NOW})
    assert world.served == [(first, "interactive")]  # what asked for flex stays there
    assert flex not in dict(world.served)
    await world.watch.follow_rights({1: NOW})
    assert len(world.served) == 1
    await world.watch.follow_rights({1: NOW + timedelta(seconds=5)})
    assert len(world.served) == 3


async def test_a_lowered_right_lowers_what_runs(world: World) -> None:
    name = world.live(identity(), tier="priority")
    world.rights = {11: identity("batch", ("batch",))}
    await world.watch.follow_rights({1: NOW})
    assert world.served == [(name, "batch")]


async def test_while_rights_cannot_be_read_it_is_tried_again(world: World) -> None:
    world.live(identity())
    world.rights = {11: identity("batch")}
    world.broken = True
    await world.watch.follow_rights({1: NOW})
    assert world.served == []
    world.broken = False
    await world.watch.follow_rights({1: NOW})
    assert len(world.served) == 1


async def test_requests_of_a_closed_key_go_on_as_they_are(world: World) -> None:
    world.live(identity())
    await world.watch.follow_rights({1: NOW})
    assert world.served == []


async def test_an_event_makes_the_policy_be_read_at_once_only_when_running_ones_are_meant(
    world: World,
) -> None:
    changed = TenantClassChanged(at_s=0.0, tenant="demo", slo_class="batch", previous="standard", actor="ann")
    world.watch.hear(changed)
    assert not world.watch.reread.is_set()
    world.watch.hear(replace(changed, apply_to_running=True))
    assert world.watch.reread.is_set()


async def test_uses_and_wishes_are_told_and_wishes_are_not_lost(world: World) -> None:
    lowered = caller_for(identity("batch", ("batch",)), "priority")
    world.abuse.note(lowered, refused=False)
    world.broken = True
    await world.watch.tell_now()
    world.broken = False
    await world.watch.tell_now()
    assert [each.asked for each in world.told] == ["interactive"]


async def test_events_come_over_redis_and_others_are_passed_over(live_redis) -> None:
    heard: list[Any] = []
    feed = asyncio.create_task(EventFeed(heard.append).run())
    revoked = TenancyChanged(
        at_s=1.0, kind="api_key", name="7", tenant="demo", action="key.revoke", actor="ann"
    )
    noise = AuditAdded(at_s=1.0, entry_id=1, actor="a", action="b", object_type="c", object_id="d")
    channel = "llumdeck:events"
    deadline = asyncio.get_running_loop().time() + 60
    while live_redis.pubsub_numsub(channel)[0][1] == 0:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    live_redis.publish(channel, b'{"type": "tenancy", "broken": true}')
    await asyncio.to_thread(publish.send, [noise, revoked])
    async with asyncio.timeout(60):
        while not heard:  # noqa: ASYNC110 - what is heard is a plain list
            await asyncio.sleep(0.01)
    feed.cancel()
    await asyncio.gather(feed, return_exceptions=True)
    assert heard == [revoked]
