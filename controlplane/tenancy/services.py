"""Writing tenants, keys, classes and roles; every change is audited."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import TenantClassChanged
from controlplane.records.services import audit
from controlplane.tenancy import keys
from controlplane.tenancy.models import ApiKey, Membership, SLOClass, Tenant

DEFAULT_CLASS = "standard"


@transaction.atomic
def create_tenant(
    *,
    slug: str,
    name: str = "",
    slo_class: SLOClass | None = None,
    allowed_classes: Iterable[SLOClass] | None = None,
    actor: str,
    reason: str = "",
) -> Tenant:
    """A new tenant; by default of the class ``standard`` and allowed every class.

    Raises ``ValidationError`` for a bad or taken slug.
    """
    tenant = Tenant(slug=slug, name=name or slug, slo_class=slo_class or _class_by_name(DEFAULT_CLASS))
    tenant.full_clean()
    tenant.save()
    tenant.allowed_classes.set(SLOClass.objects.all() if allowed_classes is None else allowed_classes)
    audit(
        actor=actor,
        action="tenant.create",
        object_type="tenant",
        object_id=slug,
        after={"slo_class": tenant.slo_class.name},
        reason=reason,
    )
    return tenant


@transaction.atomic
def issue_key(
    *, tenant: Tenant, name: str, actor: str, expires_at: datetime | None = None, reason: str = ""
) -> str:
    """Make a key and return it raw: the only moment it can be seen."""
    raw_key = keys.new_raw_key()
    row = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        prefix=keys.shown_prefix(raw_key),
        key_hash=keys.digest(raw_key),
        created_at=timezone.now(),
        expires_at=expires_at,
    )
    audit(
        actor=actor,
        action="key.issue",
        object_type="api_key",
        object_id=str(row.pk),
        after={"tenant": tenant.slug, "name": name, "prefix": row.prefix},
        reason=reason,
    )
    return raw_key


@transaction.atomic
def revoke_key(*, key: ApiKey, actor: str, reason: str = "") -> None:
    """Refuse the key from now on; gateways follow within their cache's 5 s."""
    key.revoke(now=timezone.now())
    key.save(update_fields=["revoked_at"])
    audit(
        actor=actor,
        action="key.revoke",
        object_type="api_key",
        object_id=str(key.pk),
        after={"prefix": key.prefix},
        reason=reason,
    )


@transaction.atomic
def set_tenant_class(*, tenant: Tenant, slo_class: SLOClass, actor: str, reason: str = "") -> Tenant:
    """Change the class served by default; requests that arrive from now on are served under it."""
    before = tenant.slo_class.name
    tenant.slo_class = slo_class
    tenant.save(update_fields=["slo_class"])
    audit(
        actor=actor,
        action="tenant.set_class",
        object_type="tenant",
        object_id=tenant.slug,
        before={"slo_class": before},
        after={"slo_class": slo_class.name},
        reason=reason,
    )
    publish(
        TenantClassChanged(
            at_s=timezone.now().timestamp(),
            tenant=tenant.slug,
            slo_class=slo_class.name,
            previous=before,
            actor=actor,
            reason=reason,
        )
    )
    return tenant


@transaction.atomic
def create_person(
    *, username: str, role: str, actor: str, password: str = "", tenant: Tenant | None = None
) -> str:
    """A person who may sign in; returns the password (a random one where none is given), stored hashed."""
    password = password or secrets.token_urlsafe(15)
    user = User(username=username, is_staff=role == Membership.Role.ADMIN)
    validate_password(password, user)
    user.set_password(password)
    user.full_clean()
    user.save()
    membership = Membership(user=user, role=role, tenant=tenant)
    membership.full_clean()
    membership.save()
    audit(actor=actor, action="person.create", object_type="person", object_id=username, after={"role": role})
    return password


def _class_by_name(name: str) -> SLOClass:
    return SLOClass.objects.get(name=name)
