from __future__ import annotations

from io import StringIO

import pytest
import yaml
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from controlplane.records.models import AuditEntry
from controlplane.tenancy import services
from controlplane.tenancy.interchange import apply_import, export_yaml, plan_import
from controlplane.tenancy.models import Quota, SLOClass, Tenant

pytestmark = pytest.mark.django_db

DOCUMENT = """
version: 1
classes:
  realtime: {rank: 0, ttft_target_ms: 300, colour: "#112233", limits: {concurrent_requests: 50}}
  batch: {description: Nights}
tenants:
  acme:
    name: Acme
    class: standard
    allowed: [batch, realtime]
    maximum: standard
    weight: 2.5
    limits: {requests_per_minute: 600, queue_seconds: 1.5}
    limits_in_class: {batch: {tokens_per_minute: 10000}}
"""


def test_a_document_makes_classes_tenants_and_limits():
    plan = apply_import(DOCUMENT, actor="ann", reason="move")
    acme = Tenant.objects.get(slug="acme")
    assert (acme.name, acme.weight, acme.maximum_class.name) == ("Acme", 2.5, "standard")
    assert {each.name for each in acme.allowed_classes.all()} == {"batch", "realtime"}
    assert Quota.objects.get(tenant=acme, slo_class=None).requests_per_minute == 600
    assert Quota.objects.get(tenant=acme, slo_class__name="batch").tokens_per_minute == 10_000
    assert Quota.objects.get(tenant=None, slo_class__name="realtime").concurrent_requests == 50
    assert SLOClass.objects.get(name="batch").description == "Nights"
    assert SLOClass.objects.get(name="batch").ttft_target_ms == 60_000  # what is not said stays
    assert {(each.kind, each.name, each.action) for each in plan.changes} >= {
        ("class", "realtime", "create"),
        ("class", "batch", "update"),
        ("tenant", "acme", "create"),
        ("limits", "tenant acme in class batch", "create"),
    }
    assert set(AuditEntry.objects.values_list("actor", "reason")) == {("ann", "move")}


def test_looking_at_the_differences_changes_nothing():
    plan = plan_import(DOCUMENT)
    assert not Tenant.objects.exists() and not AuditEntry.objects.exists()
    batch = next(each for each in plan.changes if each.name == "batch")
    assert batch.after == {"description": "Nights"}
    assert "may wait" in batch.before["description"]
    assert plan.digest == plan_import(DOCUMENT).digest


def test_what_was_looked_at_is_what_is_applied_or_nothing_is():
    digest = plan_import(DOCUMENT).digest
    services.update_class(slo_class=SLOClass.objects.get(name="batch"), description="Days", actor="bob")
    with pytest.raises(services.TenancyConflictError, match="again"):
        apply_import(DOCUMENT, actor="ann", digest=digest)
    assert not Tenant.objects.exists()
    apply_import(DOCUMENT, actor="ann", digest=plan_import(DOCUMENT).digest)
    assert Tenant.objects.exists()


def test_what_is_exported_changes_nothing_when_it_comes_back():
    apply_import(DOCUMENT, actor="ann")
    text = export_yaml()
    assert plan_import(text).changes == ()
    entries = AuditEntry.objects.count()
    apply_import(text, actor="ann")
    assert AuditEntry.objects.count() == entries


def test_an_export_restores_an_empty_fleet():
    apply_import(DOCUMENT, actor="ann")
    text = export_yaml()
    Tenant.objects.all().delete()
    SLOClass.objects.all().delete()
    apply_import(text, actor="ann")
    assert export_yaml() == text


def test_an_export_takes_as_many_queries_for_many_tenants_as_for_one(django_assert_max_num_queries):
    counts = []
    for number in range(1, 12):
        row = services.create_tenant(slug=f"t-{number}", actor="ann")
        services.set_quota(tenant=row, requests_per_minute=number, actor="ann")
        if number in (1, 11):
            with django_assert_max_num_queries(10) as counted:
                export_yaml()
            counts.append(len(counted.captured_queries))
    assert counts[0] == counts[1]


def test_keys_and_hashes_are_not_exported():
    acme = services.create_tenant(slug="acme", actor="ann")
    raw = services.issue_key(tenant=acme, name="ci", actor="ann")
    assert raw[:10] not in export_yaml() and "key" not in yaml.safe_load(export_yaml())["tenants"]["acme"]


def test_a_tenant_is_closed_and_opened_again():
    services.create_tenant(slug="acme", actor="ann")
    apply_import("version: 1\ntenants: {acme: {active: false}}", actor="ann")
    assert not Tenant.objects.get().active
    apply_import("version: 1\ntenants: {acme: {active: true}}", actor="ann")
    assert Tenant.objects.get().active


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "version: 1"),
        ("[]", "version: 1"),
        ("version: 2", "version: 1"),
        ("version: 1\nclasses: [", "is not YAML"),
        ("version: 1\nversion: 1", "stands there twice"),
        ("version: 1\na: &x [1]\nb: *x", "aliases"),
        ("version: 1\nboosts: {}", "boosts: unknown"),
        ("version: 1\nclasses: [1]", "classes: must be a mapping"),
        ("version: 1\nclasses: {fast: 7}", "classes.fast: must be a mapping"),
        ("version: 1\nclasses: {fast: {}}", "classes.fast.rank: "),
        ("version: 1\nclasses: {fast: {rank: -1}}", "classes.fast.rank: "),
        ("version: 1\nclasses: {fast: {rank: 1, colour: red}}", "classes.fast.colour: use six"),
        ("version: 1\nclasses: {Fast!: {rank: 1}}", "classes.Fast!.name: use lower-case"),
        ("version: 1\nclasses: {fast: {rank: 1, service_tier: flex}}", "classes.fast.__all__"),
        ("version: 1\nclasses: {fast: {rank: 1, limits: {rpm: 1}}}", "classes.fast.rpm: unknown"),
        ("version: 1\ntenants: {a: {class: gold}}", "there is no class 'gold'; there are: interactive"),
        ("version: 1\ntenants: {a: {allowed: batch}}", "tenants.a.allowed: must be a list"),
        ("version: 1\ntenants: {a: {weight: heavy}}", "tenants.a.weight: "),
        ("version: 1\ntenants: {a: {weight: 0}}", "tenants.a.weight: "),
        ("version: 1\ntenants: {a: {active: maybe}}", "tenants.a.active: must be true or false"),
        ("version: 1\ntenants: {a: {keys: []}}", "tenants.a.keys: unknown"),
        ("version: 1\ntenants: {a: {limits: {requests_per_minute: 0}}}", "requests_per_minute: "),
        ("version: 1\n" + "x" * 2**20, "larger than"),
        ("version: 1\na: " + "[" * 5000, "is not YAML"),
    ],
)
def test_a_bad_document_is_refused_whole_with_the_place_of_each_fault(text, complaint):
    for do in (plan_import, lambda given: apply_import(given, actor="ann")):
        with pytest.raises(ValidationError) as caught:
            do(text)
        assert complaint in " ".join(caught.value.message_dict["document"])
    assert not Tenant.objects.exists() and SLOClass.objects.count() == 3


def test_every_fault_is_named_not_only_the_first():
    text = "version: 1\nclasses: {a: {rank: -1}}\ntenants: {b: {class: gold}, c: {weight: 0}}"
    with pytest.raises(ValidationError) as caught:
        plan_import(text)
    assert len(caught.value.message_dict["document"]) == 3


def test_the_command_shows_then_applies_what_it_showed(tmp_path):
    file = tmp_path / "tenants.yaml"
    file.write_text(DOCUMENT)
    shown = StringIO()
    call_command("tenancy", "diff", str(file), stdout=shown)
    assert "create tenant acme" in shown.getvalue() and "description: " in shown.getvalue()
    digest = shown.getvalue().split()[-1]
    call_command("tenancy", "apply", str(file), "--digest", digest, "--actor", "ann", stdout=StringIO())
    exported = StringIO()
    call_command("tenancy", "export", stdout=exported)
    assert yaml.safe_load(exported.getvalue())["tenants"]["acme"]["weight"] == 2.5
    with pytest.raises(CommandError, match="again"):
        call_command("tenancy", "apply", str(file), "--digest", digest, stdout=StringIO())
    with pytest.raises(CommandError, match="No such file"):
        call_command("tenancy", "diff", str(tmp_path / "none"), stdout=StringIO())
