from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.rebalancing.migration_summary import kind_of_reason, percentile, summarise_migrations
from controlplane.rebalancing.models import RequestMigration
from tests.console.api.test_migrations import move
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db


def summary(since=NOW, until=NOW + timedelta(days=1)):
    return summarise_migrations(RequestMigration.objects.all(), since=since, until=until)


def test_moves_are_counted_by_pair_rule_and_reason():
    move(1, downtime_ms=10.0, tokens_moved=100)
    move(2, downtime_ms=30.0, tokens_moved=50)
    move(
        3,
        source="main-2",
        destination="main-3",
        state="aborted",
        reason="no room for 512 tokens",
        downtime_ms=None,
    )
    move(
        4,
        source="main-2",
        destination="main-3",
        state="refused",
        reason="no room for 80 tokens",
        rule="drain",
    )
    move(5, state="copying", downtime_ms=None, finished_at=None)
    found = summary()
    assert (found["total"], found["done"], found["stopped"], found["tokens_moved"]) == (5, 2, 2, 150)
    first, second = found["pairs"]
    assert (first["source"], first["destination"], first["total"], first["done"]) == (
        "main-1",
        "main-2",
        3,
        2,
    )
    assert (first["downtime_p50_ms"], first["downtime_p99_ms"]) == (10.0, 30.0)
    assert (second["stopped"], second["downtime_p50_ms"]) == (2, None)
    assert found["rules"][0] == {"rule": "load", "total": 4, "done": 2, "stopped": 1}
    assert found["reasons"] == [{"reason": "no room for … tokens", "total": 2}]
    assert found["downtime_ms"] == {"p50": 10.0, "p99": 30.0, "max": 30.0, "values_ms": [30.0, 10.0]}
    assert (found["bytes"], found["sampled"]) == (198, 2)


def test_only_the_span_is_counted_and_nothing_is_null_not_zero():
    move(1)
    found = summary(since=NOW + timedelta(hours=1))
    assert (found["total"], found["pairs"], found["downtime_ms"]["p99"]) == (0, [], None)


def test_many_moves_take_as_many_queries_as_few():
    for number in range(30):
        move(number, source=f"main-{number % 5}")
    with CaptureQueriesContext(connection) as queries:
        summary()
    assert len(queries) == 4


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("no room for 512 tokens", "no room for … tokens"),
        ("stale epoch 7: 9 commands here", "stale epoch …: … commands here"),
        ("preempted at the source", "preempted at the source"),
        ("", "not told"),
    ],
)
def test_reasons_that_differ_in_numbers_only_are_one(reason, kind):
    assert kind_of_reason(reason) == kind


def test_a_percentile_is_one_of_the_values():
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]
    assert percentile([], 0.5) is None
