from __future__ import annotations

import pytest

from controlplane.records.services import audit


@pytest.fixture
def entries(live_redis, fleet):
    audit(actor="olga", action="instance.drain", object_type="instance", object_id="main-1", reason="heat")
    audit(actor="ada", action="tenant.set_class", object_type="tenant", object_id="acme",
          before={"key": "secret"}, after={"slo_class": "batch"})  # fmt: skip


def actions(answer) -> list[str]:
    return [row["action"] for row in answer.json()["results"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["tenant.set_class", "instance.drain"]),
        ("?q=heat", ["instance.drain"]),
        ("?q=olga drain", ["instance.drain"]),
        ("?q=olga acme", []),
        ("?actor=ada", ["tenant.set_class"]),
        ("?object_type=instance&object_id=main-1", ["instance.drain"]),
    ],
)
def test_the_list_is_newest_first_and_can_be_searched(entries, as_role, query, expected):
    assert actions(as_role("viewer").get(f"/api/v1/audit{query}")) == expected


def test_secrets_are_masked(entries, as_role):
    row = as_role("viewer").get("/api/v1/audit?actor=ada").json()["results"][0]
    assert "secret" not in str(row)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_can_be_written_there(entries, as_role, method):
    answer = getattr(as_role("admin"), method)("/api/v1/audit", {}, content_type="application/json")
    assert answer.status_code == 405
