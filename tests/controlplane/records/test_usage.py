"""Usage is the sum of finished requests, counted once, and can be taken out."""

from __future__ import annotations

import csv
import json
import zlib
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db.models import Sum

from controlplane.records import services, usage
from controlplane.records.models import RequestRecord, UsageDay
from controlplane.records.types import FinishedRequest

pytestmark = pytest.mark.django_db
NOON = datetime(2030, 5, 1, 12, tzinfo=UTC)
REQUEST = FinishedRequest(
    request_id="r",
    tenant_id=1,
    key_id=2,
    slo_class_asked="",
    slo_class_served="standard",
    model="tiny",
    arrived_at=NOON - timedelta(seconds=3),
    first_token_at=NOON - timedelta(seconds=2),
    finished_at=NOON,
    prompt_tokens=100,
    output_tokens=21,
    instance_ids=("a",),
    dispatches=1,
    moves=0,
    recoveries=0,
    outcome="stop",
    queued_ms=500.0,
    cached_tokens=40,
)


def batch(count: int, **changes) -> list[FinishedRequest]:
    told = zlib.crc32(repr(changes).encode())
    return [replace(REQUEST, request_id=f"r{number}-{told}", **changes) for number in range(count)]


def test_usage_is_the_sum_of_the_records():
    services.record_requests(batch(3) + batch(2, slo_class_served="batch") + batch(1, key_id=9))
    services.record_requests(batch(4, outcome="error:503", finished_at=NOON + timedelta(days=1)))
    for name in ("prompt_tokens", "cached_tokens", "output_tokens"):
        total = Sum(name)
        assert UsageDay.objects.aggregate(n=total)["n"] == RequestRecord.objects.aggregate(n=total)["n"]
    row = usage.usage(until=NOON.date(), key_id=2, slo_class="standard").get()
    assert (row.requests, row.failed, row.prompt_tokens, row.cached_tokens) == (3, 0, 300, 120)
    assert (row.output_tokens, row.queue_seconds) == (63, 1.5)
    assert usage.usage(since=date(2030, 5, 2)).get().failed == 4


def test_a_batch_that_is_handed_over_twice_counts_once():
    rows = batch(5)
    services.record_requests(rows)
    services.record_requests(rows + batch(1, key_id=3))
    services.record_requests([rows[0], rows[0]])
    assert UsageDay.objects.aggregate(n=Sum("requests"))["n"] == RequestRecord.objects.count() == 6


def test_a_batch_that_fails_leaves_neither_records_nor_usage(monkeypatch):
    monkeypatch.setattr(services, "add_usage", lambda items: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        services.record_requests(batch(2))
    assert not RequestRecord.objects.exists()


def test_a_request_without_tenant_has_a_row_of_its_own():
    services.record_requests(batch(2, tenant_id=None, key_id=None))
    services.record_requests(batch(2, tenant_id=None, key_id=None, model="other"))
    assert UsageDay.objects.count() == 2


def test_days_are_utc_days():
    late = datetime(2030, 5, 1, 23, 30, tzinfo=UTC).astimezone()
    services.record_requests(batch(1, finished_at=late))
    assert UsageDay.objects.get().day == date(2030, 5, 1)


def test_sums_by_what_one_asks_for():
    services.record_requests(batch(3) + batch(2, slo_class_served="batch", tenant_id=7))
    by_class = usage.usage_by(usage.usage(), ["slo_class"])
    assert [(row["slo_class"], row["requests"]) for row in by_class] == [("batch", 2), ("standard", 3)]
    (whole,) = usage.usage_by(usage.usage(tenant_id=7), ["day", "tenant_id"])
    assert (whole["day"], whole["tenant_id"], whole["output_tokens"]) == (NOON.date(), 7, 42)
    with pytest.raises(ValueError, match="by: day"):
        usage.usage_by(usage.usage(), ["prompt"])


def test_the_export_is_the_same_as_csv_and_as_json():
    services.record_requests(batch(3) + batch(2, model='=HYPERLINK("x"), "y"'))
    rows = usage.usage_by(usage.usage(), ["day", "model"])
    read = list(csv.DictReader(usage.usage_csv(rows)))
    assert [row["requests"] for row in read] == ["2", "3"]
    assert read[0]["model"].startswith("'=HYPERLINK")
    assert [row["requests"] for row in json.loads(usage.usage_json(rows))] == [2, 3]
    assert list(usage.usage_csv([])) == []


def test_old_days_are_forgotten():
    services.record_requests(batch(1) + batch(1, finished_at=NOON - timedelta(days=3)))
    assert usage.delete_usage_before(NOON.date()) == 1
    assert UsageDay.objects.get().day == NOON.date()


def test_attainment_counts_who_kept_the_targets():
    slow = {"first_token_at": NOON - timedelta(milliseconds=500)}
    services.record_requests(
        batch(3) + batch(1, **slow) + batch(1, outcome="error:503") + batch(1, outcome="abort")
    )
    services.record_requests(batch(2, slo_class_served="batch"))
    found = usage.attainment(NOON - timedelta(hours=1), {"standard": (1500, 99), "batch": (None, None)})
    by_class = {each.slo_class: each for each in found}
    standard, free = by_class["standard"], by_class["batch"]
    assert (standard.requests, standard.ttft_met, standard.tpot_met) == (5, 3, 1)
    assert (free.requests, free.ttft_met, free.tpot_met) == (2, 2, 2)
    assert usage.attainment(NOON + timedelta(hours=1), {}) == []
