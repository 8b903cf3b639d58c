"""Who calls: keys in headers, their cache, revocation, networks, what logs must not hold."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from controlplane.gateway import keys
from controlplane.gateway.envelope import RefusedError
from controlplane.gateway.heading import Heading
from controlplane.gateway.keys import KeyCache, client_address
from tests.gateway.identities import KEYS, identity


def scope(*headers: tuple[bytes, bytes], query: bytes = b"", client: str = "192.0.2.7"):
    return {"headers": list(headers), "query_string": query, "client": (client, 1)}


class Door:
    """A key cache over a countable lookup and a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[str] = []
        self.keys = dict(KEYS)
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.wall = datetime(2030, 1, 1, tzinfo=UTC)
        self.cache = KeyCache(self._lookup, lambda: self.now, lambda: self.wall)

    def _lookup(self, raw_key: str, now: datetime):
        self.gate.wait(60)
        self.asked.append(raw_key)
        if self.broken:
            raise OSError("the database is away")
        return self.keys.get(raw_key)

    async def authenticate(self, header: bytes):
        return await self.ask(scope((b"authorization", header)))

    async def ask(self, asked):
        """As the door does: at once where the answer is at hand."""
        heading = Heading(asked["headers"])
        known = self.cache.authenticate_known(asked, heading)
        return known or await self.cache.authenticate(asked, heading)


@pytest.fixture
def door():
    made = Door()
    yield made
    made.cache.close()


async def refusal(work) -> int:
    with pytest.raises(RefusedError) as caught:
        await work
    return caught.value.error.status


async def test_a_good_key_is_asked_for_once_in_its_lifetime(door: Door) -> None:
    for _ in range(3):
        assert (await door.authenticate(b"Bearer good-key")).tenant_slug == "demo"
    assert door.asked == ["good-key"]


async def test_a_revoked_key_stops_within_the_lifetime(door: Door) -> None:
    await door.authenticate(b"Bearer good-key")
    del door.keys["good-key"]
    door.now += keys.KEY_LIFETIME_S
    assert await refusal(door.authenticate(b"Bearer good-key")) == 401


@pytest.mark.parametrize(
    "header",
    [b"", b"good-key", b"Basic good-key", b"Bearer ", b"Bearer " + b"x" * 500, "Bearer schlüssel".encode()],
)
async def test_what_is_no_bearer_key_is_not_asked_for(door: Door, header: bytes) -> None:
    assert await refusal(door.authenticate(header)) == 401
    assert door.asked == []


async def test_no_header_at_all(door: Door) -> None:
    assert await refusal(door.ask(scope())) == 401


async def test_many_requests_at_once_ask_once(door: Door) -> None:
    door.gate.clear()
    crowd = [asyncio.create_task(door.authenticate(b"Bearer good-key")) for _ in range(20)]
    await asyncio.sleep(0)
    door.gate.set()
    assert len({id(who) for who in await asyncio.gather(*crowd)}) == 1
    assert door.asked == ["good-key"]


async def test_known_keys_outlive_the_database_for_a_while_unknown_ones_do_not(door: Door) -> None:
    await door.authenticate(b"Bearer good-key")
    door.broken = True
    door.now += keys.KEY_LIFETIME_S + 1
    assert await door.authenticate(b"Bearer good-key")
    assert await refusal(door.authenticate(b"Bearer batch-key")) == 503
    door.now += keys.STALE_KEY_LIMIT_S
    assert await refusal(door.authenticate(b"Bearer good-key")) == 503


async def test_the_cache_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_KEYS", 3)
    for number in range(10):
        await door.cache.identify(f"guess-{number}")
    assert len(door.cache._answers) == 3


async def test_guesses_do_not_drive_out_keys_in_use(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MAX_KEYS", 3)
    await door.authenticate(b"Bearer good-key")
    for number in range(10):
        await door.cache.identify(f"guess-{number}")
    door.asked.clear()
    await door.authenticate(b"Bearer good-key")
    assert door.asked == []


async def test_a_flood_of_guesses_is_refused_and_known_keys_are_asked_beside_it(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MAX_STRANGERS", 5)
    await door.authenticate(b"Bearer good-key")
    door.now += keys.KEY_LIFETIME_S
    door.gate.clear()
    flood = [asyncio.create_task(door.cache.identify(f"guess-{number}")) for number in range(50)]
    known = asyncio.create_task(door.authenticate(b"Bearer good-key"))
    await asyncio.sleep(0.05)
    door.gate.set()
    assert (await known).tenant_slug == "demo"
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(each, RefusedError) for each in answers) == 45


async def test_what_was_written_is_asked_anew_at_once(door: Door) -> None:
    await door.authenticate(b"Bearer good-key")
    door.keys["good-key"] = replace(door.keys["good-key"], slo_class="batch")
    door.cache.forget("another-tenant")
    assert (await door.authenticate(b"Bearer good-key")).slo_class == "standard"
    door.cache.forget("demo")
    assert (await door.authenticate(b"Bearer good-key")).slo_class == "batch"


async def test_an_answer_that_was_under_way_when_something_was_written_does_not_last(door: Door) -> None:
    door.gate.clear()
    asking = asyncio.create_task(door.authenticate(b"Bearer good-key"))
    await asyncio.sleep(0.01)
    door.cache.forget()
    door.gate.set()
    await asking
    await door.authenticate(b"Bearer good-key")
    assert len(door.asked) == 2


async def test_a_key_that_is_known_to_be_revoked_is_refused_though_the_database_is_away(door: Door) -> None:
    await door.authenticate(b"Bearer good-key")
    door.broken = True
    door.now += keys.KEY_LIFETIME_S
    await door.authenticate(b"Bearer good-key")
    door.cache.drop(door.keys["good-key"].key_id)
    assert await refusal(door.authenticate(b"Bearer good-key")) == 503


async def test_forgetting_does_not_make_an_old_answer_younger(door: Door) -> None:
    await door.authenticate(b"Bearer good-key")
    door.broken = True
    door.now += keys.STALE_KEY_LIMIT_S - 1
    door.cache.forget()
    door.now += 2
    assert await refusal(door.authenticate(b"Bearer good-key")) == 503


async def test_a_key_expires_in_the_middle_of_its_cached_life(door: Door) -> None:
    expires_at = door.wall + timedelta(seconds=2)
    door.keys["good-key"] = replace(door.keys["good-key"], expires_at=expires_at)
    await door.authenticate(b"Bearer good-key")
    door.wall = expires_at
    assert await refusal(door.authenticate(b"Bearer good-key")) == 401
    assert door.asked == ["good-key"]


async def test_the_header_of_other_interfaces_is_taken_too(door: Door) -> None:
    assert (await door.ask(scope((b"x-api-key", b"good-key")))).tenant_slug == "demo"


async def test_a_key_in_the_address_is_refused_with_advice_and_looked_up_nowhere(door: Door) -> None:
    query = b"api_key=ld_" + b"x" * 43
    with pytest.raises(RefusedError) as caught:
        await door.ask(scope(query=query))
    error = caught.value.error
    assert (error.status, error.code) == (401, "api_key_in_url")
    assert "xxx" not in error.message and door.asked == []


@pytest.mark.parametrize(
    ("client", "allowed"),
    [
        ("192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8::5", True),
        ("::ffff:192.0.2.9", True),
        ("", False),
    ],
)
async def test_a_key_is_good_from_its_networks_only(door: Door, client: str, allowed: bool) -> None:
    networks = tuple(ip_network(each) for each in ("192.0.2.0/24", "2001:db8::/32"))
    door.keys["good-key"] = replace(door.keys["good-key"], networks=networks)
    asking = door.ask(scope((b"authorization", b"Bearer good-key"), client=client))
    if allowed:
        assert await asking
    else:
        assert await refusal(asking) == 403


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", [b"10.9.9.9"], "192.0.2.7"),
        ("127.0.0.1", [b"192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", [b"10.9.9.9, 192.0.2.7"], "192.0.2.7"),
        ("127.0.0.1", [b"10.9.9.9", b"192.0.2.7, 127.0.0.1"], "192.0.2.7"),
        ("127.0.0.1", [b"10.9.9.9, nonsense"], "127.0.0.1"),
        ("127.0.0.1", [b"," * 10_000], "127.0.0.1"),
    ],
)
def test_only_trusted_proxies_may_say_who_called(peer: str, forwarded: list[bytes], caller: str) -> None:
    trusted = (ip_network("127.0.0.0/8"),)
    heading = Heading([(b"x-forwarded-for", value) for value in forwarded])
    assert str(client_address(scope(client=peer), heading.forwarded, trusted)) == caller


async def test_the_last_use_of_each_key_is_told_once(door: Door) -> None:
    for _ in range(3):
        await door.authenticate(b"Bearer good-key")
    (use,) = door.cache.take_uses()
    assert (use.key_id, use.at, use.address) == (11, door.wall, "192.0.2.7")
    assert door.cache.take_uses() == []


async def test_a_refusal_takes_as_long_for_a_near_miss_as_for_a_far_one() -> None:
    """Keys are found by their digest: how much of a guess is right cannot show in the time it takes."""
    known = "ld_" + "a" * 43
    cache = KeyCache(lambda raw, now: identity() if raw == known else None, time.monotonic, datetime.now)
    near, far = known[:-1] + "b", "ld_" + "z" * 43
    await cache.identify(near)
    await cache.identify(far)
    times: dict[str, list[int]] = {near: [], far: []}
    for turn in range(4000):
        for guess in (near, far) if turn % 2 else (far, near):
            begun = time.perf_counter_ns()
            await cache.identify(guess)
            times[guess].append(time.perf_counter_ns() - begun)
    cache.close()
    halves = [statistics.median(times[near][part::2]) for part in (0, 1)]
    noise = abs(halves[0] - halves[1]) + 100
    assert abs(statistics.median(times[near]) - statistics.median(times[far])) < 20 * noise
