from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from controlplane.records.models import AuditEntry
from controlplane.tenancy import keys, selectors, services
from controlplane.tenancy.models import ApiKey, Membership, SLOClass, Tenant

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo() -> Tenant:
    return services.create_tenant(slug="demo", actor="ann")


def authenticate(raw_key: str):
    return selectors.authenticate_key(raw_key, timezone.now())


def test_a_fleet_starts_with_the_three_classes():
    rules = selectors.class_rules()
    assert [(name, terms.rank) for name, terms in rules.items()] == [
        ("interactive", 0),
        ("standard", 1),
        ("batch", 2),
    ]
    assert (rules["interactive"].ttft_target_ms, rules["interactive"].tpot_target_ms) == (500, 50)
    assert rules["batch"].tpot_target_ms is None


def test_a_key_speaks_for_its_tenant(demo):
    identity = authenticate(services.issue_key(tenant=demo, name="ci", actor="ann"))
    assert identity is not None
    assert (identity.tenant_id, identity.tenant_slug, identity.slo_class) == (demo.pk, "demo", "standard")
    assert identity.allowed_classes == ("interactive", "standard", "batch")
    assert set(identity.class_rules) == {"interactive", "standard", "batch"}


def test_a_tenant_may_be_held_to_some_classes():
    batch = SLOClass.objects.get(name="batch")
    tenant = services.create_tenant(slug="jobs", slo_class=batch, allowed_classes=[], actor="ann")
    identity = authenticate(services.issue_key(tenant=tenant, name="ci", actor="ann"))
    assert identity is not None
    assert identity.allowed_classes == ("batch",)


def test_a_key_is_kept_as_a_hash_alone(demo):
    raw = services.issue_key(tenant=demo, name="ci", actor="ann")
    row = ApiKey.objects.get()
    assert row.key_hash == keys.digest(raw)
    assert raw.startswith(row.prefix)
    stored = " ".join(str(value) for value in ApiKey.objects.values_list().get())
    assert raw not in stored
    assert raw not in str(list(AuditEntry.objects.values()))


@pytest.mark.parametrize("raw", ["", "ld_", "sk-other", "ld_" + "x" * 43, "ld_" + "é" * 43, "x" * 10_000])
def test_an_unknown_key_is_nobody(demo, raw):
    services.issue_key(tenant=demo, name="ci", actor="ann")
    assert authenticate(raw) is None


def test_a_revoked_an_expired_and_a_closed_tenants_key_are_nobody(demo):
    revoked = services.issue_key(tenant=demo, name="a", actor="ann")
    services.revoke_key(key=ApiKey.objects.get(), actor="ann", reason="leaked")
    soon = timezone.now() + timedelta(minutes=1)
    expiring = services.issue_key(tenant=demo, name="b", actor="ann", expires_at=soon)
    assert authenticate(revoked) is None
    assert authenticate(expiring) is not None
    assert selectors.authenticate_key(expiring, soon) is None
    Tenant.objects.update(active=False)
    assert authenticate(expiring) is None


def test_keys_are_256_random_bits():
    made = {keys.new_raw_key() for _ in range(100)}
    assert len(made) == 100
    assert all(keys.is_well_formed(each) for each in made)


@pytest.mark.parametrize("slug", ["", "Demo", "a b", "-x", "x" * 64, "ü"])
def test_a_bad_slug_is_refused(slug):
    with pytest.raises(ValidationError) as caught:
        services.create_tenant(slug=slug, actor="ann")
    assert "slug" in caught.value.message_dict


def test_a_changed_class_is_audited_and_announced(demo, sent_events, django_capture_on_commit_callbacks):
    batch = SLOClass.objects.get(name="batch")
    with django_capture_on_commit_callbacks(execute=True):
        services.set_tenant_class(tenant=demo, slo_class=batch, actor="ann", reason="cheap")
    row = AuditEntry.objects.first()
    assert row is not None
    assert (row.before, row.after, row.reason) == ({"slo_class": "standard"}, {"slo_class": "batch"}, "cheap")
    assert [event.slo_class for event in sent_events if hasattr(event, "previous")] == ["batch"]
    identity = authenticate(services.issue_key(tenant=demo, name="ci", actor="ann"))
    assert identity is not None
    assert identity.slo_class == "batch"


# --------------------------------------------------------------- people


def test_a_person_gets_a_random_password_that_is_kept_hashed():
    password = services.create_person(username="op", role=Membership.Role.OPERATOR, actor="system:up")
    user = User.objects.get()
    assert user.check_password(password)
    assert password not in user.password
    assert selectors.role_of(user) == "operator"
    assert selectors.may_operate(user)


def test_a_weak_password_is_refused():
    with pytest.raises(ValidationError):
        services.create_person(username="op", role=Membership.Role.VIEWER, actor="ann", password="password")
    assert not User.objects.exists()


def test_strangers_and_the_inactive_have_no_role():
    services.create_person(username="eve", role=Membership.Role.ADMIN, actor="ann")
    eve = User.objects.get()
    eve.is_active = False
    assert selectors.role_of(eve) is None
    assert selectors.role_of(AnonymousUser()) is None
    assert not selectors.may_operate(AnonymousUser())


def test_a_viewer_may_not_operate():
    services.create_person(username="vic", role=Membership.Role.VIEWER, actor="ann")
    assert not selectors.may_operate(User.objects.get())


def test_a_tenant_owner_needs_a_tenant_and_others_have_none(demo):
    user = User.objects.create(username="own")
    for role, tenant in ((Membership.Role.TENANT_OWNER, None), (Membership.Role.VIEWER, demo)):
        with pytest.raises(IntegrityError), transaction.atomic():
            Membership.objects.create(user=user, role=role, tenant=tenant)
    Membership.objects.create(user=user, role=Membership.Role.TENANT_OWNER, tenant=demo)
