"""Buckets for charts: coarse ones say what the fine ones said, gaps stay gaps, the old is forgotten."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controlplane.rebalancing import services
from controlplane.records import history
from controlplane.records.history import PoolSample, latency_history, pool_history
from controlplane.records.models import LatencyHistory, PoolHistory, RequestRecord
from tests.controlplane import builders
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db

SAMPLE = PoolSample(
    pool="chat",
    instances=2,
    running=10,
    waiting=1,
    queued=0,
    used_share=0.5,
    freeness_tokens=100.0,
    tokens_per_s=50.0,
    preemptions=1,
    migrations_done=2,
    migrations_failed=0,
)


def fill(seconds: int, **changes) -> None:
    for second in range(0, seconds, history.FINE_S):
        history.record_pools([replace(SAMPLE, **changes)], at=NOW + timedelta(seconds=second + 3))


def test_a_bucket_is_written_once(django_assert_num_queries):
    history.record_pools([SAMPLE], at=NOW + timedelta(seconds=1))
    history.record_pools([replace(SAMPLE, running=99)], at=NOW + timedelta(seconds=9))
    row = PoolHistory.objects.get()
    assert (row.at, row.running) == (NOW, 10)


def test_minutes_and_hours_are_made_of_finer_buckets_once_they_have_ended():
    fill(130, used_share=0.5)
    for _ in range(2):
        made = history.roll_up(now=NOW + timedelta(seconds=131))
    assert made["minutes"] == 0
    rows = PoolHistory.objects.filter(resolution_s=60).order_by("at")
    assert [(row.at, row.running, row.preemptions, row.migrations_done) for row in rows] == [
        (NOW, 10, 6, 12),
        (NOW + timedelta(minutes=1), 10, 6, 12),
    ]
    history.roll_up(now=NOW + timedelta(minutes=60, seconds=1))
    hour = PoolHistory.objects.get(resolution_s=3600)
    assert (hour.at, hour.preemptions) == (NOW, 13)


def test_what_nobody_reported_is_a_gap_and_no_zero():
    fill(20, used_share=None)
    history.record_pools([SAMPLE], at=NOW + timedelta(seconds=50))
    history.roll_up(now=NOW + timedelta(minutes=3))
    (row,) = PoolHistory.objects.filter(resolution_s=60)
    assert row.used_share == 0.5
    found = pool_history(pool="chat", since=NOW, until=NOW + timedelta(minutes=5))
    assert [each["at"] for each in found] == [NOW + timedelta(seconds=second) for second in (0, 10, 50)]


@pytest.mark.parametrize(("span", "resolution_s"), [(50, 10), (3_000, 10), (3_100, 60), (20_000, 3_600)])
def test_the_finest_resolution_that_fits_is_chosen(span, resolution_s):
    assert (
        history._resolution(NOW, NOW + timedelta(seconds=span), 300 if span != 20_000 else 10) == resolution_s
    )


def test_old_buckets_are_forgotten_by_their_fineness():
    fill(10)
    history.roll_up(now=NOW + timedelta(minutes=2))
    history.roll_up(now=NOW + timedelta(hours=7))
    assert {row.resolution_s for row in PoolHistory.objects.all()} == {60, 3600}
    history.roll_up(now=NOW + timedelta(days=8))
    assert {row.resolution_s for row in PoolHistory.objects.all()} == {3600}


def request(number: int, *, ttft_ms: float | None, at_s: float, outcome: str = "stop") -> None:
    moment = NOW + timedelta(seconds=at_s)
    RequestRecord.objects.create(
        request_id=f"r-{number}",
        model="tiny",
        slo_class_served="batch",
        arrived_at=moment,
        finished_at=moment,
        prompt_tokens=10,
        output_tokens=5,
        outcome=outcome,
        ttft_ms=ttft_ms,
        end_to_end_ms=100.0 * number,
    )


def test_latency_of_a_class_is_read_from_its_requests():
    for number in range(10):
        request(number, ttft_ms=float(number), at_s=number)
    request(10, ttft_ms=None, at_s=11, outcome="error:503")
    history.roll_up(now=NOW + timedelta(minutes=2))
    history.roll_up(now=NOW + timedelta(minutes=3))
    (row,) = latency_history(slo_class="batch", since=NOW, until=NOW + timedelta(minutes=10))
    assert (row["requests"], row["failed"], row["ttft_p50_ms"], row["ttft_p99_ms"]) == (11, 1, 5.0, 9.0)
    assert (row["tpot_p50_ms"], row["prompt_tokens"], row["end_to_end_p99_ms"]) == (None, 110, 900.0)
    assert LatencyHistory.objects.filter(resolution_s=60).count() == 1


def test_pools_are_sampled_from_what_agents_report(live_redis, chat_pool):
    builders.pool("silent")
    counters: dict[str, services.PreemptionCounter] = {}
    totals = (("first", 5), ("first", 8), ("second", 2), ("second", 6))
    for number, (incarnation, preemptions) in enumerate(totals):
        builders.report(
            live_redis,
            builders.status(
                "chat-1",
                seq=number + 1,
                incarnation=incarnation,
                running=4,
                used_blocks=400,
                preemptions_total=preemptions,
            ),
        )
        now = NOW + timedelta(seconds=10 * number)
        services.sample_pools(counters=counters, stale_s=60.0, now=now)
    rows = list(PoolHistory.objects.order_by("at"))
    assert [(row.pool, row.running, row.used_share) for row in rows] == [("chat", 4, 0.5)] * 4
    assert [row.preemptions for row in rows] == [0, 3, 0, 4]
    assert len(counters["chat"]._totals) == 1, "an incarnation that is gone is not remembered"


def test_preemptions_are_summed_per_pool_from_a_moment_on():
    fill(30, preemptions=2)
    assert history.preemptions_since(NOW + timedelta(seconds=10)) == {"chat": 4}
    assert history.preemptions_since(NOW + timedelta(hours=1)) == {}
