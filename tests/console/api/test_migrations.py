from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.rebalancing.models import RequestMigration
from controlplane.records.models import AuditEntry
from tests.controlplane import builders


def move(number: int, **changes) -> RequestMigration:
    fields = {
        "migration_id": f"m-{number}",
        "request_id": f"r-{number}",
        "source": "main-1",
        "destination": "main-2",
        "rule": "load",
        "state": "done",
        "downtime_ms": 23.4,
        "stages": [{"stage": 0, "blocks": 9, "bytes": 99, "duration_ms": 1.5, "tokens_meanwhile": 2}],
        "started_at": builders.NOW + timedelta(seconds=number),
        "finished_at": builders.NOW + timedelta(seconds=number, milliseconds=500),
    }
    return RequestMigration.objects.create(**fields | changes)


def ask(client, query: str = ""):
    return client.get(f"/api/v1/migrations{query}")


def names(answer) -> list[str]:
    return [row["id"] for row in answer.json()["results"]]


def test_a_move_is_told_with_its_stages_and_times(as_role):
    move(1)
    found = as_role("viewer").get("/api/v1/migrations/m-1").json()
    assert (found["source"], found["destination"], found["downtime_ms"]) == ("main-1", "main-2", 23.4)
    assert found["started_at"] == "2026-03-01T12:00:01.000Z"
    assert found["ended_at"] == "2026-03-01T12:00:01.500Z"
    assert found["stages"][0]["blocks"] == 9


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["m-3", "m-2", "m-1"]),
        ("?state=done", ["m-1"]),
        ("?final=true", ["m-2", "m-1"]),
        ("?instance=main-3", ["m-3"]),
        ("?tenant=acme", ["m-2"]),
        ("?request_id=r-1", ["m-1"]),
    ],
)
def test_the_list_is_newest_first_and_can_be_narrowed(as_role, query, expected):
    move(1)
    move(2, state="aborted", tenant="acme")
    move(3, state="copying", destination="main-3", finished_at=None)
    assert names(ask(as_role("viewer"), query)) == expected


def test_pages_go_on_where_the_last_one_ended_though_rows_are_added(as_role):
    for number in range(5):
        move(number)
    client = as_role("viewer")
    first = ask(client, "?limit=2")
    move(9)
    second = client.get(f"/api/v1/{first.json()['next']}")
    assert names(first) + names(second) == ["m-4", "m-3", "m-2", "m-1"]


@pytest.mark.parametrize(
    ("query", "field"),
    [("?limit=0", "limit"), ("?limit=201", "limit"), ("?limit=ten", "limit"), ("?limit=-1", "limit"),
     ("?cursor=%C3%A9", "cursor"), ("?state=lost", "state"), ("?final=maybe", "final")],
)  # fmt: skip
def test_a_bad_query_names_its_field(as_role, query, field):
    answer = ask(as_role("viewer"), query)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def wish(client, **changes):
    body = {"request_id": "r-1", "source": "main-1", "destination": "main-2"} | changes
    return client.post("/api/v1/migrations", body, content_type="application/json")


def test_a_manual_move_is_wished_and_audited(live_redis, as_role):
    answer = wish(as_role("operator"), reason="too slow there")
    assert answer.status_code == 202
    row = RequestMigration.objects.get(migration_id=answer.json()["migration_id"])
    assert (row.state, row.rule, row.requested_by) == ("requested", "manual", "the-operator")
    entry = AuditEntry.objects.get(action="request.migrate")
    assert (entry.actor, entry.object_id, entry.reason) == ("the-operator", "r-1", "too slow there")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"destination": "main-1"}, "same instance"),
        ({"destination": "main-9"}, "main-9"),
        ({"source": "main-9"}, "main-9"),
    ],
)
def test_a_move_that_cannot_be_is_refused_with_the_reason(live_redis, as_role, changes, words):
    answer = wish(as_role("operator"), **changes)
    assert answer.status_code == 409
    assert words in answer.json()["detail"]
    assert not RequestMigration.objects.exists()


@pytest.mark.parametrize("field", ["request_id", "source", "destination"])
def test_a_move_without_a_field_names_it(as_role, field):
    answer = wish(as_role("operator"), **{field: ""})
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_moves_can_be_counted_for_a_span_of_one_pool(as_role):
    for number in (1, 2):
        move(number)
    move(3, source="elsewhere-1")
    client = as_role("viewer")
    span = "since=2026-03-01T00:00:00Z&until=2026-03-02T00:00:00Z"
    found = client.get(f"/api/v1/migrations/summary?{span}&pool=main&done=true").json()
    assert (found["total"], found["pairs"][0]["total"]) == (2, 2)
    assert client.get(f"/api/v1/migrations/summary?{span}").json()["total"] == 3
    refused = client.get("/api/v1/migrations/summary?since=2026-03-02T00:00:00Z&until=2026-03-01T00:00:00Z")
    assert refused.json()["errors"][0]["field"] == "since"
    unknown = client.get("/api/v1/migrations/summary?limit=5")
    assert unknown.json()["errors"][0]["field"] == "limit"
