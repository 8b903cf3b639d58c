from __future__ import annotations

from datetime import timedelta

from django.utils import timezone

from controlplane.records.models import AuditEntry
from controlplane.records.services import record_requests
from controlplane.records.types import FinishedRequest
from controlplane.tenancy import services
from controlplane.tenancy.models import ApiKey, Tenant


def set_class(client, slug: str = "acme", **body):
    return client.post(f"/api/v1/tenants/{slug}/class", body, content_type="application/json")


def test_a_tenants_class_is_changed_and_audited(live_redis, as_role):
    answer = set_class(as_role("operator"), slo_class="interactive", reason="paid for it")
    assert answer.status_code == 200
    assert answer.json()["slo_class"] == "interactive"
    assert Tenant.objects.get(slug="acme").slo_class.name == "interactive"
    entry = AuditEntry.objects.get(action="tenant.update")
    assert (entry.actor, entry.reason) == ("the-operator", "paid for it")
    assert (entry.before, entry.after) == ({"slo_class": "standard"}, {"slo_class": "interactive"})


def test_a_class_that_does_not_exist_is_refused_and_the_right_ones_are_named(as_role):
    answer = set_class(as_role("operator"), slo_class="platinum")
    assert answer.status_code == 400
    error = answer.json()["errors"][0]
    assert error["field"] == "slo_class"
    assert "interactive" in error["message"]
    assert Tenant.objects.get(slug="acme").slo_class.name == "standard"


def test_an_unknown_tenant_is_a_404(as_role):
    assert set_class(as_role("operator"), slug="nobody", slo_class="batch").status_code == 404


def finished(tenant: Tenant, number: int, *, minutes_ago: float) -> FinishedRequest:
    end = timezone.now() - timedelta(minutes=minutes_ago)
    return FinishedRequest(
        request_id=f"{tenant.slug}-{number}",
        tenant_id=tenant.pk,
        key_id=None,
        slo_class_asked="",
        slo_class_served="standard",
        model="tiny",
        arrived_at=end - timedelta(seconds=2),
        first_token_at=end - timedelta(seconds=1),
        finished_at=end,
        prompt_tokens=10,
        output_tokens=5,
        instance_ids=("main-1",),
        dispatches=1,
        moves=0,
        recoveries=0,
        outcome="stop",
        queued_ms=0.0,
    )


def test_usage_counts_the_last_minutes_and_valid_keys_only(live_redis, as_role, fleet):
    acme = Tenant.objects.get(slug="acme")
    record_requests([finished(acme, n, minutes_ago=n * 6) for n in range(4)])
    services.issue_key(tenant=acme, name="good", actor="test")
    services.issue_key(tenant=acme, name="old", actor="test", expires_at=timezone.now() - timedelta(1))
    services.issue_key(tenant=acme, name="gone", actor="test")
    services.revoke_key(key=ApiKey.objects.get(name="gone"), actor="test")
    found = as_role("viewer").get("/api/v1/tenants/acme").json()
    assert found["keys"] == 1
    assert found["recent"] == {
        "requests": 3, "prompt_tokens": 30, "output_tokens": 15, "ttft_mean_ms": 1000.0
    }  # fmt: skip


def test_a_tenant_without_requests_has_no_mean_rather_than_zero(as_role):
    assert as_role("viewer").get("/api/v1/tenants/acme").json()["recent"]["ttft_mean_ms"] is None
