"""What people are told when a part is away: what, since when, what goes on, what waits, what to do."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from django.db import OperationalError

from controlplane.fleet import jobs_status
from controlplane.fleet.jobs_status import FleetStatus
from controlplane.rebalancing import situation
from controlplane.rebalancing.situation import Onsets, degradations
from controlplane.rebalancing.types import Degradation, LoopStatus
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db


def loop_says(client, *, silent_s: float = 0.0, degraded: tuple[Degradation, ...] = ()) -> None:
    status = LoopStatus(
        leader="one",
        epoch=1,
        tick=1,
        last_tick_at_s=NOW.timestamp() - silent_s,
        tick_ms=1.0,
        interval_ms=200,
        overruns=0,
        instances=2,
        commands_refused=0,
        degraded=list(degraded),
    )
    client.set("llumdeck:loop:status", msgspec.json.encode(status))


def test_nothing_is_degraded_when_all_is_well(live_redis):
    loop_says(live_redis)
    assert degradations(NOW, Onsets()) == []


def test_the_loops_own_complaints_are_passed_on_with_their_beginning(live_redis):
    since_s = NOW.timestamp() - 30
    loop_says(live_redis, degraded=(Degradation(part="agents", reason="no answer from a", since_s=since_s),))
    (found,) = degradations(NOW, Onsets())
    assert (found.part, found.since) == ("agents", NOW - timedelta(seconds=30))
    assert found.works
    assert found.on_hold
    assert found.do


@pytest.mark.parametrize(("silent_s", "reason"), [(60.0, "no tick for 60 s"), (None, "nobody leads")])
def test_a_loop_that_is_away_is_told_by_its_silence(live_redis, silent_s, reason):
    if silent_s is not None:
        loop_says(live_redis, silent_s=silent_s)
    (found,) = degradations(NOW, Onsets())
    assert (found.part, found.reason) == ("loop", reason)
    assert found.since == NOW - timedelta(seconds=silent_s or 0)
    assert "migrations" in found.on_hold


def test_without_redis_the_loop_is_not_blamed(settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    onsets = Onsets()
    assert [each.part for each in degradations(NOW, onsets)] == ["redis"]
    (later,) = degradations(NOW + timedelta(seconds=40), onsets)
    assert later.since == NOW
    assert later.to_dict()["since"] == NOW.isoformat()


def test_a_database_that_is_away_is_told_and_heals(live_redis, monkeypatch):
    loop_says(live_redis)
    onsets = Onsets()

    class Broken:
        def cursor(self):
            raise OperationalError("database is locked\nand more")

        def close(self):
            pass

    with monkeypatch.context() as patched:
        patched.setattr(situation, "connection", Broken())
        (found,) = degradations(NOW, onsets)
        assert (found.part, found.reason, found.since) == ("database", "database is locked", NOW)
    assert degradations(NOW, onsets) == []


def test_what_the_jobs_say_of_ray_is_passed_on(live_redis):
    loop_says(live_redis)
    jobs_status.write(FleetStatus(at_s=NOW.timestamp(), problem="the head is away", since_s=NOW.timestamp()))
    (found,) = degradations(NOW, Onsets())
    assert (found.part, found.reason, found.since) == ("ray", "the head is away", NOW)
