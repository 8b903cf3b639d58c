"""What people write about keys, limits, boosts and members, and what gateways then read."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from controlplane.events.schema import TenancyChanged, TenantClassChanged
from controlplane.records.models import AuditEntry
from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import ApiKey, Membership, Quota, SLOClass, Tenant
from controlplane.tenancy.services.api_keys import new_key
from controlplane.tenancy.types import KeyUse

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


@pytest.fixture
def acme() -> Tenant:
    return services.create_tenant(slug="acme", actor="ann")


def slo_class(name: str) -> SLOClass:
    return SLOClass.objects.get(name=name)


def key_of(tenant: Tenant, **fields):
    return new_key(tenant=tenant, name="ci", actor="ann", **fields)


def identity(raw: str):
    found = selectors.authenticate_key(raw, timezone.now())
    assert found is not None
    return found


# ---------------------------------------------------------------- keys


def test_what_a_key_is_held_to_reaches_the_gateway(acme):
    issued = key_of(acme, scopes=["models"], networks=["192.0.2.0/24"], slo_class=slo_class("batch"))
    found = identity(issued.raw)
    assert found.scopes == {"models"} and found.networks == (ip_network("192.0.2.0/24"),)
    assert found.slo_class == "batch"
    assert issued.raw not in repr(issued)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", ["everything"]),
        ("scopes", ["models", "models"]),
        ("scopes", "models"),
        ("networks", ["10.0.0.1/8"]),
        ("networks", ["home"]),
        ("networks", [f"10.0.0.{number}" for number in range(60)]),
        ("name", ""),
    ],
)
def test_a_bad_field_is_refused_by_its_name(acme, field, value):
    issued = key_of(acme)
    with pytest.raises(ValidationError) as caught:
        services.change_key(key=issued.row, actor="ann", **{field: value})
    assert field in caught.value.message_dict


def test_an_expiry_without_a_zone_is_refused(acme):
    with pytest.raises(ValidationError):
        key_of(acme, expires_at=timezone.now().replace(tzinfo=None))


def test_the_hash_of_a_key_cannot_be_written(acme):
    issued = key_of(acme)
    for field in ("key_hash", "tenant", "prefix", "nonsense"):
        with pytest.raises(ValidationError):
            services.change_key(key=issued.row, actor="ann", **{field: "x"})


def test_after_a_rotation_both_keys_work_for_the_overlap_and_then_the_new_one_alone(acme):
    old = key_of(acme, scopes=["inference"], slo_class=slo_class("batch"))
    services.set_quota(key=old.row, requests_per_minute=7, actor="ann")
    new = services.rotate_key(key=old.row, overlap=HOUR, actor="ann", reason="yearly")
    assert identity(old.raw).key_id != identity(new.raw).key_id
    assert (identity(new.raw).slo_class, identity(new.raw).scopes) == ("batch", {"inference"})
    assert [each.requests_per_minute for each in identity(new.raw).limits] == [7]
    later = timezone.now() + HOUR
    assert selectors.authenticate_key(old.raw, later) is None
    assert selectors.authenticate_key(new.raw, later) is not None
    assert new.row.replaces == old.row
    with pytest.raises(services.TenancyConflictError, match="newer"):
        services.rotate_key(key=old.row, actor="ann")


def test_a_rotation_never_makes_a_key_live_longer(acme):
    soon = timezone.now() + timedelta(minutes=5)
    old = key_of(acme, expires_at=soon)
    services.rotate_key(key=old.row, actor="ann")
    old.row.refresh_from_db()
    assert old.row.expires_at == soon


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=91)])
def test_an_overlap_has_bounds(acme, overlap):
    with pytest.raises(ValidationError):
        services.rotate_key(key=key_of(acme).row, overlap=overlap, actor="ann")


def test_a_revoked_key_stays_revoked(acme):
    issued = key_of(acme)
    services.revoke_key(key=issued.row, actor="ann")
    first = issued.row.revoked_at
    services.revoke_key(key=issued.row, actor="ann")
    assert issued.row.revoked_at == first
    assert AuditEntry.objects.filter(action="key.revoke").count() == 1
    for change in (services.change_key, services.rotate_key):
        with pytest.raises(services.TenancyConflictError, match="revoked"):
            change(key=issued.row, actor="ann")


def test_uses_are_noted_and_older_news_is_ignored(acme):
    issued = key_of(acme)
    now = timezone.now()
    uses = [KeyUse(issued.row.pk, now, "192.0.2.7"), KeyUse(issued.row.pk, now - HOUR, "192.0.2.8")]
    assert services.note_key_uses(uses) == 1
    assert services.note_key_uses([KeyUse(issued.row.pk, now - HOUR, None)]) == 0
    issued.row.refresh_from_db()
    assert (issued.row.last_used_at, issued.row.last_used_from) == (now, "192.0.2.7")


# ---------------------------------------------------------------- limits


def test_limits_of_key_tenant_and_class_all_bind(acme):
    issued, other = key_of(acme), key_of(acme)
    services.set_quota(key=issued.row, requests_per_minute=1, actor="ann")
    services.set_quota(tenant=acme, tokens_per_minute=2, actor="ann")
    services.set_quota(tenant=acme, slo_class=slo_class("batch"), concurrent_requests=3, actor="ann")
    services.set_quota(slo_class=slo_class("batch"), queue_seconds=4.0, actor="ann")
    stranger = services.create_tenant(slug="else", actor="ann")
    services.set_quota(tenant=stranger, queued_requests=5, actor="ann")
    found = {each.scope: each for each in identity(issued.raw).limits}
    assert set(found) == {"key", "tenant", "tenant in class", "class"}
    assert found["tenant in class"].slo_class == "batch"
    assert len({each.subject for each in found.values()}) == 4
    assert "key" not in {each.scope for each in identity(other.raw).limits}


def test_a_limit_is_changed_and_lifted_one_by_one(acme):
    services.set_quota(tenant=acme, requests_per_minute=5, tokens_per_minute=6, actor="ann")
    row = services.set_quota(tenant=acme, tokens_per_minute=None, actor="ann")
    assert (row.requests_per_minute, row.tokens_per_minute) == (5, None)
    entry = AuditEntry.objects.first()
    assert entry is not None
    assert (entry.before, entry.after) == ({"tokens_per_minute": 6}, {"tokens_per_minute": None})
    services.clear_quota(quota=row, actor="ann")
    assert not Quota.objects.exists()


@pytest.mark.parametrize(
    "limits", [{"requests_per_minute": 0}, {"queue_seconds": -1}, {"rpm": 5}, {"tokens_per_minute": "many"}]
)
def test_a_bad_limit_is_refused_by_its_name(acme, limits):
    with pytest.raises(ValidationError) as caught:
        services.set_quota(tenant=acme, actor="ann", **limits)
    assert set(caught.value.message_dict) == set(limits)


def test_limits_belong_to_exactly_one_subject(acme):
    issued = key_of(acme)
    for subject in ({}, {"tenant": acme, "key": issued.row}):
        with pytest.raises(ValidationError):
            services.set_quota(requests_per_minute=1, actor="ann", **subject)
        with pytest.raises(IntegrityError), transaction.atomic():
            Quota.objects.create(requests_per_minute=1, **subject)
    for subject in ({"tenant": acme}, {"key": issued.row}, {"slo_class": slo_class("batch")}):
        Quota.objects.create(**subject)
        with pytest.raises(IntegrityError), transaction.atomic():
            Quota.objects.create(**subject)


# ---------------------------------------------------------------- classes, boosts


def test_a_boost_raises_default_and_ceiling_until_it_ends(acme):
    services.update_tenant(tenant=acme, maximum_class=slo_class("standard"), actor="ann")
    issued = key_of(acme)
    until = timezone.now() + HOUR
    boost = services.grant_boost(
        tenant=acme, slo_class=slo_class("interactive"), expires_at=until, actor="ann", reason="launch"
    )
    found = identity(issued.raw)
    assert (found.slo_class, found.boosted_until) == ("interactive", until)
    after = selectors.authenticate_key(issued.raw, until)
    assert after is not None and after.slo_class == "standard" and after.boosted_until is None
    assert "interactive" not in after.allowed_classes
    services.end_boost(boost=boost, actor="ann")
    assert identity(issued.raw).slo_class == "standard"
    with pytest.raises(services.TenancyConflictError, match="ended"):
        services.end_boost(boost=boost, actor="ann")


def test_a_boost_of_one_key_leaves_the_others_alone(acme):
    one, other = key_of(acme), key_of(acme)
    fields = {"slo_class": slo_class("interactive"), "actor": "ann", "reason": "demo"}
    services.grant_boost(tenant=acme, key=one.row, expires_at=timezone.now() + HOUR, **fields)
    assert (identity(one.raw).slo_class, identity(other.raw).slo_class) == ("interactive", "standard")
    stranger = services.create_tenant(slug="else", actor="ann")
    with pytest.raises(ValidationError, match="not a key"):
        services.grant_boost(tenant=stranger, key=one.row, expires_at=timezone.now() + HOUR, **fields)


@pytest.mark.parametrize(
    ("lasts", "reason", "field"),
    [(-HOUR, "x", "expires_at"), (timedelta(days=32), "x", "expires_at"), (HOUR, "  ", "reason")],
)
def test_a_boost_without_end_or_reason_is_refused(acme, lasts, reason, field):
    with pytest.raises(ValidationError) as caught:
        services.grant_boost(
            tenant=acme,
            slo_class=slo_class("batch"),
            expires_at=timezone.now() + lasts,
            actor="ann",
            reason=reason,
        )
    assert field in caught.value.message_dict


def test_running_requests_follow_when_that_is_asked(acme, sent_events, django_capture_on_commit_callbacks):
    begun = timezone.now() - HOUR
    with django_capture_on_commit_callbacks(execute=True):
        services.set_tenant_class(tenant=acme, slo_class=slo_class("batch"), actor="ann")
    assert selectors.reclassified_tenants(begun) == {}
    with django_capture_on_commit_callbacks(execute=True):
        services.set_tenant_class(
            tenant=acme, slo_class=slo_class("interactive"), actor="ann", apply_to_running=True
        )
    assert set(selectors.reclassified_tenants(begun)) == {acme.pk}
    told = [event for event in sent_events if isinstance(event, TenantClassChanged)]
    assert [(each.previous, each.slo_class, each.apply_to_running) for each in told] == [
        ("standard", "batch", False),
        ("batch", "interactive", True),
    ]


def test_a_maximum_below_a_newly_given_class_is_lifted_to_it(acme):
    services.update_tenant(tenant=acme, maximum_class=slo_class("batch"), actor="ann")
    issued = key_of(acme)
    assert identity(issued.raw).slo_class == "batch"
    services.set_tenant_class(tenant=acme, slo_class=slo_class("standard"), actor="ann")
    assert identity(issued.raw).slo_class == "standard"


def test_a_class_in_use_cannot_be_deleted_one_out_of_use_can(acme):
    with pytest.raises(services.TenancyConflictError, match="acme"):
        services.delete_class(slo_class=slo_class("standard"), actor="ann")
    made = services.create_class(name="bulk", rank=9, actor="ann", colour="#000000")
    services.delete_class(slo_class=made, actor="ann")
    assert not SLOClass.objects.filter(name="bulk").exists()


def test_a_tier_asks_for_one_class_only(acme):
    with pytest.raises(ValidationError):
        services.update_class(slo_class=slo_class("standard"), service_tier="flex", actor="ann")


# ---------------------------------------------------------------- tenants, members


def test_a_closed_tenants_keys_are_refused_until_it_is_opened(acme):
    issued = key_of(acme)
    services.close_tenant(tenant=acme, actor="ann")
    assert selectors.authenticate_key(issued.raw, timezone.now()) is None
    with pytest.raises(services.TenancyConflictError):
        services.close_tenant(tenant=acme, actor="ann")
    services.reopen_tenant(tenant=acme, actor="ann")
    assert identity(issued.raw)


def test_a_tenants_slug_is_for_ever(acme):
    with pytest.raises(ValidationError):
        services.update_tenant(tenant=acme, slug="other", actor="ann")


def test_a_person_may_own_several_tenants_and_have_one_role(acme):
    other = services.create_tenant(slug="other", actor="ann")
    user = User.objects.create(username="owen")
    for tenant in (acme, other):
        services.add_member(user=user, role=Membership.Role.TENANT_OWNER, tenant=tenant, actor="ann")
    assert [each.slug for each in selectors.owned_tenants(user)] == ["acme", "other"]
    assert selectors.role_of(user) == "tenant_owner"
    services.add_member(user=user, role=Membership.Role.VIEWER, actor="ann")
    assert selectors.role_of(user) == "viewer"
    with pytest.raises(services.TenancyConflictError):
        services.add_member(user=user, role=Membership.Role.OPERATOR, actor="ann")
    with pytest.raises(ValidationError):
        services.add_member(user=user, role=Membership.Role.TENANT_OWNER, actor="ann")


def test_the_last_admin_stays(acme):
    user = User.objects.create(username="ada")
    member = services.add_member(user=user, role=Membership.Role.ADMIN, actor="ann")
    with pytest.raises(services.TenancyConflictError, match="last admin"):
        services.remove_member(member=member, actor="ann")
    with pytest.raises(services.TenancyConflictError, match="last admin"):
        services.change_role(member=member, role=Membership.Role.VIEWER, actor="ann")
    second = User.objects.create(username="bea")
    services.add_member(user=second, role=Membership.Role.ADMIN, actor="ann")
    services.change_role(member=member, role=Membership.Role.VIEWER, actor="ann")


def test_every_write_is_audited_with_before_and_after_and_announced(
    acme, sent_events, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        services.update_tenant(tenant=acme, weight=3.0, actor="ann", reason="paid")
        services.update_tenant(tenant=acme, weight=3.0, actor="ann", reason="again")
    entries = AuditEntry.objects.filter(action="tenant.update")
    assert [(each.before, each.after, each.reason) for each in entries] == [
        ({"weight": 1.0}, {"weight": 3.0}, "paid")
    ]
    (told,) = [event for event in sent_events if isinstance(event, TenancyChanged)]
    assert (told.kind, told.tenant, told.action) == ("tenant", "acme", "tenant.update")


def test_no_audit_entry_holds_a_key_or_its_hash(acme):
    issued = key_of(acme)
    services.rotate_key(key=issued.row, actor="ann")
    stored = str(list(AuditEntry.objects.values()))
    for row in ApiKey.objects.all():
        assert row.key_hash not in stored
    assert issued.raw not in stored
