"""What every endpoint understands: retries, preconditions, fields, order, search, export, limits."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.utils import timezone

from console.api.models import StoredAnswer
from controlplane.alerts.models import Alert, AlertRule, Delivery, Silence, Webhook
from controlplane.fleet.models import InstanceTransition
from controlplane.fleet.services import create_pool
from controlplane.rebalancing.models import PolicyVersion, RebalanceRound
from controlplane.records.models import AuditEntry
from controlplane.records.operations import start_operation
from controlplane.records.services import audit, record_requests
from controlplane.tenancy import services as tenancy
from controlplane.tenancy.models import ApiKey, SLOClass, Tenant
from tests.console.api.endpoints import CALLS
from tests.console.api.test_migrations import move
from tests.console.api.test_tenants import finished
from tests.console.conftest import person
from tests.controlplane import builders


def post(client, path, body, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(f"/api/v1/{path}", body, content_type="application/json", headers=names)


def test_the_same_key_is_done_once_and_answered_twice(live_redis, as_role):
    client = as_role("operator")
    body = {"request_id": "r-1", "source": "main-1", "destination": "main-2"}
    first, second = (post(client, "migrations", body, Idempotency_Key="k-1") for _ in range(2))
    assert first.json() == second.json()
    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (202, 202, "true")
    assert AuditEntry.objects.filter(action="request.migrate").count() == 1


def test_a_key_belongs_to_one_request_and_one_caller(live_redis, as_role):
    client = as_role("operator")
    post(client, "instances/main-1/drain", {}, Idempotency_Key="k-1")
    other = post(client, "instances/main-2/drain", {}, Idempotency_Key="k-1")
    assert (other.status_code, "another request" in other.json()["detail"]) == (422, True)
    assert post(as_role("admin"), "instances/main-2/drain", {}, Idempotency_Key="k-1").status_code == 202


def test_a_key_in_use_is_a_409_and_one_that_was_abandoned_may_be_used(live_redis, as_role):
    client = as_role("operator")
    post(client, "instances/main-1/drain", {}, Idempotency_Key="k-1")
    StoredAnswer.objects.update(status=None, body=None)
    assert post(client, "instances/main-1/drain", {}, Idempotency_Key="k-1").status_code == 409
    StoredAnswer.objects.update(made_at=timezone.now() - timedelta(minutes=6))
    assert post(client, "instances/main-1/drain", {}, Idempotency_Key="k-1").status_code == 202


def test_after_a_day_a_key_is_new(live_redis, as_role):
    client = as_role("operator")
    post(client, "instances/main-1/drain", {}, Idempotency_Key="k-1")
    StoredAnswer.objects.update(made_at=timezone.now() - timedelta(hours=25))
    assert (
        "Idempotency-Replayed"
        not in post(client, "instances/main-1/drain", {}, Idempotency_Key="k-1").headers
    )


def test_a_refusal_is_answered_alike_too(live_redis, as_role):
    client = as_role("admin")
    body = {"username": "newcomer", "role": "viewer", "password": "short"}
    first, second = (post(client, "people", body, Idempotency_Key="k-1") for _ in range(2))
    assert first.json() == second.json()
    assert first.json()["errors"][0]["field"] == "password"
    assert {first["Content-Type"], second["Content-Type"]} == {"application/problem+json"}
    assert second["Idempotency-Replayed"] == "true"


def test_a_secret_is_not_kept_for_the_retry(live_redis, as_role):
    client = as_role("admin")
    first, second = (
        post(client, "tenants/acme/keys", {"name": "a"}, Idempotency_Key="k-1") for _ in range(2)
    )
    assert first.json()["key"].startswith("ld_")
    assert second.json() == {**first.json(), "key": None}
    assert ApiKey.objects.count() == 1
    assert first.json()["key"] not in str(StoredAnswer.objects.values_list("body", flat=True))


def test_nobody_overwrites_what_they_have_not_seen(live_redis, as_role):
    client = as_role("admin")
    path = "/api/v1/tenants/acme"
    tag = client.get(path)["ETag"]

    def patch(name: str, **headers):
        return client.patch(path, {"name": name}, content_type="application/json", headers=headers)

    assert patch("A").status_code == 428
    first = patch("Acme & Sons", **{"If-Match": tag})
    assert first.status_code == 200
    assert patch("Other", **{"If-Match": tag}).status_code == 412
    assert patch("Third", **{"If-Match": f'W/{first["ETag"]}, "x"'}).status_code == 200
    assert Tenant.objects.get(slug="acme").name == "Third"


def test_live_figures_do_not_change_the_etag(live_redis, as_role):
    client = as_role("viewer")
    before = client.get("/api/v1/tenants/acme")["ETag"]
    record_requests([finished(Tenant.objects.get(slug="acme"), 1, minutes_ago=1)])
    assert client.get("/api/v1/tenants/acme")["ETag"] == before


def test_only_the_fields_asked_for_are_answered(as_role):
    rows = as_role("viewer").get("/api/v1/instances?fields=instance_id,state").json()["results"]
    assert rows[0] == {"instance_id": "main-1", "state": "ready"}


@pytest.mark.parametrize(
    ("query", "field"),
    [("fields=weather", "fields"), ("ordering=weather", "ordering"), ("export=xml", "export"),
     ("limt=3", "limt"),
     ("since=yesterday", "since"), ("limit=²", "limit"), ("cursor=bz0xMDAwMDAwMDAwMDAwMDAwMDAwMA==", None),
     ("cursor=!!!", None), ("q=%00", "q")],
)  # fmt: skip
def test_a_bad_parameter_is_named(as_role, query, field):
    answer = as_role("viewer").get(f"/api/v1/audit?{query}")
    if field is None:
        assert answer.status_code in {200, 400}
    else:
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_order_and_search(as_role):
    for number in range(3):
        move(number, reason="full" if number == 1 else "")
    client = as_role("viewer")

    def names(query: str) -> list[str]:
        return [row["id"] for row in client.get(f"/api/v1/migrations?{query}").json()["results"]]

    assert names("ordering=started_at") == ["m-0", "m-1", "m-2"]
    assert names("ordering=-started_at") == ["m-2", "m-1", "m-0"]
    assert names("q=full") == ["m-1"]


def test_lists_are_exported_whole_and_safe_for_spreadsheets(as_role):
    for number in range(60):
        audit(actor="=cmd()", action="x", object_type="t", object_id=str(number), after={"a": [1]})
    client = as_role("viewer")
    answer = client.get("/api/v1/audit?export=csv&fields=actor,object_id,after")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert (len(rows), rows[0]) == (60, {"actor": "'=cmd()", "object_id": "59", "after": '{"a": [1]}'})
    assert 'filename="audit.csv"' in answer["Content-Disposition"]
    assert len(client.get("/api/v1/audit?export=json").json()["results"]) == 60


@pytest.mark.parametrize(
    "body",
    ['{"change_reason": "\\u0000"}', '{"change_reason": "\\ud800"}', "[" * 40 + "]" * 40,
     '{"a":' * 3000 + "1" + "}" * 3000,
     "[" * 100_000, '{"change_reason": NaN}', "9" * 5000, '{"a": 1, "b"'],
)  # fmt: skip
def test_bodies_that_cannot_be_stored_are_refused(as_role, body):
    answer = as_role("operator").post("/api/v1/instances/main-1/drain", body, content_type="application/json")
    assert answer.status_code == 400, answer.content
    assert answer["Content-Type"] == "application/problem+json"


def test_a_large_body_is_refused_before_it_is_read(as_role):
    answer = as_role("operator").post(
        "/api/v1/instances/main-1/drain",
        '{"change_reason": "' + "x" * 3_000_000 + '"}',
        content_type="application/json",
    )
    assert answer.status_code == 413


def test_writes_carry_their_reason_and_origin_into_the_audit(live_redis, as_role):
    post(
        as_role("operator"),
        "instances/main-1/drain",
        {"change_reason": "heat"},
        X_Request_ID="trace-0123456789",
    )
    entry = AuditEntry.objects.get(action="instance.drain")
    assert (entry.reason, entry.request_id, entry.address) == ("heat", "trace-0123456789", "127.0.0.1")


def grow(number: int, fleet) -> None:
    """One more row of everything that lists show."""
    pool = fleet["main-1"].pool
    standard = SLOClass.objects.get(name="standard")
    tenant = Tenant.objects.create(slug=f"t-{number}", name="t", slo_class=standard)
    tenant.allowed_classes.set(SLOClass.objects.all())
    acme = Tenant.objects.get(slug="acme")
    tenancy.issue_key(tenant=acme, name=f"k-{number}", actor="t")
    key = ApiKey.objects.latest("id")
    tenancy.set_quota(key=key, actor="t", requests_per_minute=5)
    tomorrow = timezone.now() + timedelta(days=1)
    tenancy.grant_boost(tenant=acme, key=key, slo_class=standard, expires_at=tomorrow, actor="t", reason="r")
    owner = person(None, name=f"p-{number}")
    tenancy.add_member(user=owner, role="tenant_owner", tenant=acme, actor="t")
    row = builders.instance(f"more-{number}", of=pool)
    InstanceTransition.objects.create(instance=fleet["main-1"], at=builders.NOW, state="ready", actor="t")
    create_pool(name=f"pool-{number}", served_model="m", model_path="/m", engine="paced", actor="t")
    move(number)
    record_requests([finished(acme, number, minutes_ago=1)])
    start_operation(kind="k", object_type="instance", object_id=row.instance_id, actor="t")
    RebalanceRound.objects.create(
        pool=pool, taken_at=builders.NOW, epoch=1, tick=number, snapshot={}, decisions=[], duration_ms=1.0
    )
    PolicyVersion.objects.create(
        pool=pool, version=100 + number, config={}, created_by="t", created_at=builders.NOW
    )
    rule = AlertRule.objects.create(name=f"r-{number}", kind="queue_time")
    Alert.objects.create(
        rule=rule, severity="info", summary="s", started_at=builders.NOW, seen_at=builders.NOW
    )
    Silence.objects.create(
        rule=rule, starts_at=builders.NOW, ends_at=builders.NOW, created_by="t", reason="r"
    )
    Webhook.objects.create(
        name=f"w-{number}", url="https://x", salt="s", created_by="t", created_at=builders.NOW
    )


LISTS = sorted(
    {call.path for (_, method), call in CALLS.items() if method == "get" and call.status == 200}
    - {call.path for call in CALLS.values() if call.path.startswith("/")}
    - {"session/options", "schema", "me/totp", "configuration", "people/somebody"}
    | {"requests?live=false"}
)  # fmt: skip


def test_a_list_takes_as_many_queries_for_many_rows_as_for_few(
    live_redis, as_role, fleet, django_assert_max_num_queries
):
    client = as_role("admin")

    def queries_of(path: str) -> list[str]:
        with django_assert_max_num_queries(40) as counted:
            assert client.get(f"/api/v1/{path}").status_code == 200, path
        return [query["sql"][:90] for query in counted.captured_queries]

    grow(0, fleet)
    grow(1, fleet)
    few = {path: len(queries_of(path)) for path in LISTS}
    for number in range(2, 8):
        grow(number, fleet)
    many = {path: queries_of(path) for path in LISTS}
    assert {path: made for path, made in many.items() if len(made) != few[path]} == {}


def test_deliveries_take_as_many_queries_for_many_as_for_few(as_role, django_assert_max_num_queries):
    client = as_role("admin")
    hook = Webhook.objects.create(
        name="w", url="https://x", salt="s", created_by="t", created_at=builders.NOW
    )
    counts = []
    for many in (1, 8):
        for _ in range(many):
            Delivery.objects.create(
                webhook=hook, event="test", payload={}, due_at=builders.NOW, created_at=builders.NOW
            )
        with django_assert_max_num_queries(40) as counted:
            assert client.get(f"/api/v1/webhooks/{hook.pk}/deliveries").status_code == 200
        counts.append(len(counted))
    assert counts[0] == counts[1]
