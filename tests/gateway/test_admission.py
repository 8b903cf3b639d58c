"""Who is let in, as what; what is refused before any work is done on it."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime

import pytest

from controlplane.gateway import admission
from controlplane.gateway.admission import KeyCache, RefusedError, caller_for, read_envelope
from tests.gateway.identities import KEYS, identity


class Door:
    """A key cache over a countable lookup and a clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: list[str] = []
        self.keys = dict(KEYS)
        self.broken = False
        self.gate = threading.Event()
        self.gate.set()
        self.cache = KeyCache(self._lookup, lambda: self.now, lambda: datetime.now(UTC))

    def _lookup(self, raw_key: str, now: datetime):
        self.gate.wait(60)
        self.asked.append(raw_key)
        if self.broken:
            raise OSError("the database is away")
        return self.keys.get(raw_key)

    async def authenticate(self, header: bytes):
        return await self.cache.authenticate([(b"authorization", header)])


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
    door.now += admission.KEY_LIFETIME_S
    assert await refusal(door.authenticate(b"Bearer good-key")) == 401


@pytest.mark.parametrize(
    "header",
    [b"", b"good-key", b"Basic good-key", b"Bearer ", b"Bearer " + b"x" * 500, "Bearer schlüssel".encode()],
)
async def test_what_is_no_bearer_key_is_not_asked_for(door: Door, header: bytes) -> None:
    assert await refusal(door.authenticate(header)) == 401
    assert door.asked == []


async def test_no_header_at_all(door: Door) -> None:
    assert await refusal(door.cache.authenticate([])) == 401


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
    door.now += admission.KEY_LIFETIME_S + 1
    assert await door.authenticate(b"Bearer good-key")
    assert await refusal(door.authenticate(b"Bearer batch-key")) == 503
    door.now += admission.STALE_KEY_LIMIT_S
    assert await refusal(door.authenticate(b"Bearer good-key")) == 503


async def test_the_cache_is_bounded(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_KEYS", 3)
    for number in range(10):
        await door.cache.identify(f"guess-{number}")
    assert len(door.cache._answers) == 3


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
    "body",
    [
        b"",
        b"{",
        b"{bad}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"n": 1} trailing',
        b'{"a": "\xff"}',
        b"[1, 2",
        b"nul",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read_envelope(body)
    assert (caught.value.error.status, caught.value.error.code) == (400, "invalid_json")


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(RefusedError) as caught:
        read_envelope(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert caught.value.error.status == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"n": 1000}', "n"),
        (b'{"best_of": 100000}', "best_of"),
        (b'{"prompt": [' + b",".join([b'"a"'] * 1000) + b"]}", "prompt"),
        (b'{"prompt": [ ' + b",".join([b"[1,2]"] * 1000) + b"]}", "prompt"),
    ],
)
def test_what_would_become_too_many_requests_is_refused(body: bytes, param: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_envelope(body)
    assert (caught.value.error.status, caught.value.error.param) == (400, param)


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        (b'{"service_tier": "flex", "prompt": "x"}', "flex"),
        (b'{"service_tier": 7, "n": "many"}', ""),
        (b'{"prompt": ' + b"[" + b",".join([b"5"] * 4000) + b"]}", ""),
        (b'[{"not": "an object"}]', ""),
        (b'"text"', ""),
    ],
)
def test_whatever_else_is_json_passes_on_to_vllm(body: bytes, tier: str) -> None:
    assert read_envelope(body).service_tier == tier
