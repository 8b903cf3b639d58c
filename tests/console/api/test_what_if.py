"""Cases 46 and 47 at the door: what an upload may be, and how many simulations one may ask for."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest

from controlplane.rebalancing.models import PolicyVersion
from controlplane.rebalancing.what_if_models import WhatIfJob, WhatIfTrace

CSV = "arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(f"{n}.0,10,20\n" for n in range(20))


def upload(client, content: str, **more):
    body = {"name": "mine", "content": content, **more}
    return client.post("/api/v1/what-if/traces", body, content_type="application/json")


@pytest.fixture
def no_worker(monkeypatch):
    monkeypatch.setattr("controlplane.rebalancing.services.what_if._send", lambda job_id: None)


def bomb() -> str:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/cron.d/x", b"0" * 1_000_000)
    return packed.getvalue().decode("latin-1")


NO_TRACES = {
    "zip": bomb().replace("\x00", "0"),
    "gzip": gzip.compress(b"x" * 9_000).decode("latin-1").replace("\x00", "0"),
    "nothing": "",
    "other columns": "a,b\n1",
    "formula": "=cmd|' /C calc'!A0,1,2\n",
    "not a number": CSV + "nan,10,20\n",
    "negative": CSV + "99.0,-1,20\n",
    "endless": CSV + "99.0,1e99,20\n",
}


@pytest.mark.parametrize("content", NO_TRACES.values(), ids=NO_TRACES)
def test_what_is_no_trace_is_refused_with_a_sentence_and_nothing_is_kept(live_redis, as_role, content):
    answer = upload(as_role("operator"), content)
    assert answer.status_code == 400, answer.content[:300]
    assert answer.json()["errors"][0]["message"]
    assert not WhatIfTrace.objects.exists()


def test_an_upload_has_limits_of_rows_and_bytes(live_redis, as_role):
    client = as_role("operator")
    many = CSV.splitlines()[0] + "\n" + "".join(f"{n}.0,10,20\n" for n in range(20_001))
    assert upload(client, many).status_code == 400
    assert upload(client, "x" * (3 * 2**20)).status_code == 413


def test_a_trace_is_taken_and_nothing_of_the_file_but_its_numbers_is_kept(live_redis, as_role):
    answer = upload(as_role("operator"), CSV)
    assert (answer.status_code, answer.json()["rows"]) == (201, 20)


def test_a_person_has_so_many_simulations_and_no_more(live_redis, as_role, no_worker):
    client = as_role("operator")
    trace = upload(client, CSV).json()["id"]
    policies = [{"config": {"policy": "llumnix"}}, {"config": {"policy": "llumdeck"}}]
    body = {"trace": trace, "policies": policies}
    answers = [client.post("/api/v1/what-if/jobs", body, content_type="application/json") for _ in range(12)]
    statuses = [each.status_code for each in answers]
    assert statuses[0] == 202, answers[0].content
    assert statuses[-1] == 429
    assert "under way" in answers[-1].json()["detail"]
    first = answers[0].json()["id"]
    assert (
        client.post(f"/api/v1/what-if/jobs/{first}/cancel", {}, content_type="application/json").status_code
        == 200
    )
    assert WhatIfJob.objects.get(pk=first).state == "cancelled"
    assert client.post("/api/v1/what-if/jobs", body, content_type="application/json").status_code == 202


def test_a_preview_asks_the_core_and_stores_nothing(live_redis, as_role):
    client = as_role("viewer")
    body = {"config": {"policy": "llumnix"}}
    found = client.post("/api/v1/policies/preview", body, content_type="application/json").json()
    assert found["policy"] == "llumnix"
    assert {change["path"] for change in found["diff"]} >= {"policy"}
    assert not PolicyVersion.objects.exists()


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("policies/preview", {"config": {"policy": "magic"}}, "policy"),
        (
            "policies/preview",
            {"config": {"dispatch": {"staleness_limit_s": -1}}},
            "dispatch.staleness_limit_s",
        ),
        ("policies/validate", {"config": {"policy": "magic"}}, "policy"),
        ("policies", {"config": {"policy": "magic"}}, "config"),
        ("policies", {"yaml": "policy: llumdeck\npolicy: llumnix"}, "policy"),
    ],
)
def test_what_is_wrong_with_a_policy_names_its_field_once(live_redis, as_role, path, body, field):
    answer = as_role("operator").post(f"/api/v1/{path}", body, content_type="application/json")
    said = answer.json()
    (found,) = said.get("errors") or said.get("problems") or [said]
    assert found["field"] == field
    assert not found["message"].startswith(f"{field}:")
    assert said.get("detail", "").count(f"{field}:") == ("detail" in said)


def test_fields_of_a_policy_are_described_for_forms(as_role):
    found = as_role("viewer").get("/api/v1/policies/schema").json()["results"]
    by_path = {each["path"]: each for each in found}
    assert "llumdeck" in by_path["policy"]["choices"]
    staleness = by_path["dispatch.staleness_limit_s"]
    assert (staleness["kind"], staleness["low"], staleness["high"]) == ("number", 0.05, 3600.0)
    assert staleness["meaning"] == "An instance whose report is older takes no new work."


def test_activation_needs_the_version_that_was_read_and_can_be_rolled_back(live_redis, as_role):
    client = as_role("operator")

    def made(name: str) -> int:
        body = {"config": {"policy": name}, "change_reason": "try"}
        return client.post("/api/v1/policies", body, content_type="application/json").json()["id"]

    def activate(number: int, tag: str | None):
        headers = {"If-Match": tag} if tag else {}
        path = f"/api/v1/policies/{number}/activate"
        return client.post(path, {}, content_type="application/json", headers=headers)

    first, second = made("llumnix"), made("llumdeck")
    assert activate(first, None).status_code == 428
    assert activate(first, '"other"').status_code == 412
    assert activate(first, client.get(f"/api/v1/policies/{first}")["ETag"]).json()["active"] is True
    activate(second, client.get(f"/api/v1/policies/{second}")["ETag"])
    back = client.post("/api/v1/policies/rollback", {}, content_type="application/json")
    assert (back.status_code, back.json()["id"]) == (200, first)
    changes = client.get(f"/api/v1/policies/{second}/diff").json()["changes"]
    assert {"path": "policy", "before": "llumnix", "after": "llumdeck"} in changes


@pytest.mark.parametrize(
    ("for_s", "status"), [(600, 200), (5, 400), (10**9, 400), ("soon", 400), (None, 200)]
)
def test_a_policy_can_be_activated_for_a_time(live_redis, as_role, for_s, status):
    client = as_role("operator")
    body = {"config": {"policy": "llumnix"}}
    number = client.post("/api/v1/policies", body, content_type="application/json").json()["id"]
    answer = client.post(
        f"/api/v1/policies/{number}/activate",
        {"for_s": for_s},
        content_type="application/json",
        headers={"If-Match": "*"},
    )
    assert answer.status_code == status
    if status == 200:
        assert bool(answer.json()["active_until"]) is bool(for_s)
    else:
        assert answer.json()["errors"][0]["field"] == "for_s"
