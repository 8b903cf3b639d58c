from __future__ import annotations

import time

import pytest

from controlplane.fleet.models import Instance
from controlplane.records.models import AuditEntry
from engine_agents.messages import ClassLoad
from tests.console.fake_fleet import FakeFleet, Writer
from tests.controlplane import builders


def post(client, path, **body):
    return client.post(f"/api/v1/{path}", body, content_type="application/json")


def test_an_instance_comes_with_its_last_report(live_redis, as_role):
    load = ClassLoad(slo_class="batch", running=2, used_blocks=10)
    builders.report(
        live_redis,
        builders.status(
            "main-1", pool="main", reported_at_s=time.time(), used_blocks=10, running=2, per_class=[load]
        ),
    )
    found = as_role("viewer").get("/api/v1/instances/main-1").json()
    assert (found["instance_id"], found["pool"], found["state"]) == ("main-1", "main", "ready")
    assert (found["live"]["used_blocks"], found["live"]["freeness"]) == (10, 790 * 16 / 2)
    assert found["live"]["age_s"] < 60


def test_an_instance_that_never_reported_has_no_live_part(live_redis, as_role):
    assert as_role("viewer").get("/api/v1/instances/main-1").json()["live"] is None


def test_without_redis_the_rows_are_still_answered(settings, as_role):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    found = as_role("viewer").get("/api/v1/instances").json()["results"]
    assert [(row["instance_id"], row["live"]) for row in found] == [
        ("main-1", None), ("main-2", None), ("main-3", None)
    ]  # fmt: skip


def test_the_list_can_be_narrowed(live_redis, as_role, fleet):
    Instance.objects.filter(instance_id="main-2").update(state="unhealthy")
    found = as_role("viewer").get("/api/v1/instances?state=unhealthy&pool=main").json()["results"]
    assert [row["instance_id"] for row in found] == ["main-2"]


def test_a_drain_takes_effect_and_is_audited_with_its_reason(live_redis, as_role):
    answer = post(as_role("operator"), "instances/main-1/drain", reason="kernel update")
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["accepting"]) == ("draining", False)
    row = Instance.objects.get(instance_id="main-1")
    assert (row.state, row.accepting) == ("draining", False)
    entry = AuditEntry.objects.get(action="instance.drain")
    assert (entry.actor, entry.object_id, entry.reason) == ("the-operator", "main-1", "kernel update")
    assert (entry.before["state"], entry.after["state"]) == ("ready", "draining")


def test_an_undrain_takes_it_back_and_is_audited(live_redis, as_role):
    client = as_role("operator")
    post(client, "instances/main-1/drain")
    assert post(client, "instances/main-1/undrain").json()["accepting"] is True
    assert AuditEntry.objects.filter(action="instance.undrain", object_id="main-1").count() == 1


def test_what_does_not_run_cannot_be_drained_and_nothing_is_audited(live_redis, as_role, fleet):
    Instance.objects.filter(instance_id="main-1").update(state="stopped")
    answer = post(as_role("operator"), "instances/main-1/drain")
    assert answer.status_code == 409
    assert "main-1 is stopped" in answer.json()["detail"]
    assert not AuditEntry.objects.filter(action="instance.drain").exists()


@pytest.mark.parametrize("action", ["drain", "undrain", "requests"])
def test_an_unknown_instance_is_a_404(live_redis, as_role, action):
    client = as_role("operator")
    path = f"/api/v1/instances/main-9/{action}"
    answer = (
        client.get(path) if action == "requests" else client.post(path, {}, content_type="application/json")
    )
    assert answer.status_code == 404
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field"),
    [({"reason": "x" * 501}, "reason"), ({"reason": {"a": 1}}, "reason"), ({"raeson": "typo"}, "raeson")],
)
def test_a_bad_body_names_the_field_and_changes_nothing(live_redis, as_role, body, field):
    answer = post(as_role("operator"), "instances/main-1/drain", **body)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert Instance.objects.get(instance_id="main-1").state == "ready"


def test_requests_are_null_until_they_were_fetched_and_then_listed(live_redis, as_role):
    client = as_role("viewer")
    path = "/api/v1/instances/main-1/requests"
    assert client.get(path).json()["requests"] is None
    fleet = FakeFleet(instances=3, now=time.time())
    Writer(live_redis).write(fleet, time.time())
    shown = client.get(path).json()["requests"]
    assert {item["request_id"] for item in shown} == {item.request_id for item in fleet.requests("main-1")}
    assert not {"prompt", "output", "text"} & set(shown[0])


def test_without_redis_the_requests_cannot_be_asked_for_and_it_says_so(settings, as_role):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    answer = as_role("viewer").get("/api/v1/instances/main-1/requests")
    assert answer.status_code == 503
    assert "Redis" in answer.json()["detail"]
