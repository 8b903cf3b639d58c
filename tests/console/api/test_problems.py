"""Errors leave as problem documents, with the request's id, whatever went wrong."""

from __future__ import annotations

import pytest
from django.db import OperationalError


def test_an_unknown_path_is_a_problem_document(client):
    answer = client.get("/api/v1/weather")
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"
    assert "/api/v1/weather" in answer.json()["detail"]


def test_the_callers_request_id_comes_back(as_role):
    answer = as_role("viewer").get("/api/v1/instances/nope", headers={"X-Request-ID": "trace-0123456789"})
    assert answer["X-Request-ID"] == "trace-0123456789"
    assert answer.json()["request_id"] == "trace-0123456789"


@pytest.mark.parametrize("given", ["short", "x" * 65, "two words of it", "<script>alert()"])
def test_an_unfit_request_id_is_replaced(as_role, given):
    answer = as_role("viewer").get("/api/v1/me", headers={"X-Request-ID": given})
    assert answer["X-Request-ID"] != given
    assert len(answer["X-Request-ID"]) == 16


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("{", "application/json", 400),
        ("a=b", "application/x-www-form-urlencoded", 415),
        ("[]", "application/json", 400),
    ],
)
def test_a_body_that_is_not_a_json_object_is_refused(as_role, body, kind, status):
    answer = as_role("operator").post("/api/v1/instances/main-1/drain", body, content_type=kind)
    assert answer.status_code == status
    assert answer.json()["status"] == status


def test_a_database_that_fails_is_a_503_that_says_what_still_works(as_role, monkeypatch):
    client = as_role("viewer")

    def fail(*args, **kwargs):
        raise OperationalError("disk on fire, table secret_things")

    monkeypatch.setattr("console.api.views.audit.audit_entries", fail)
    answer = client.get("/api/v1/audit")
    assert answer.status_code == 503
    assert "Requests are still served" in answer.json()["detail"]
    assert "secret_things" not in answer.content.decode()
