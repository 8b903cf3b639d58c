"""Reading tenants, keys, classes and roles."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Q, QuerySet

from controlplane.tenancy import keys
from controlplane.tenancy.models import ApiKey, Membership, SLOClass, Tenant
from controlplane.tenancy.types import ClassTerms, KeyIdentity


def authenticate_key(raw_key: str, now: datetime) -> KeyIdentity | None:
    """Whom this bearer key speaks for at ``now``; ``None`` if unknown, expired, revoked or closed.

    Three queries; callers cache the answer for at most 5 s, which bounds how
    long a revoked key goes on working.
    """
    if not keys.is_well_formed(raw_key):
        return None
    key = (
        ApiKey.objects.select_related("tenant__slo_class")
        .filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now))
        .filter(key_hash=keys.digest(raw_key), revoked_at__isnull=True, tenant__active=True)
        .first()
    )
    return _identity(key) if key else None


def class_rules() -> dict[str, ClassTerms]:
    """Every SLO class by name, lowest rank first."""
    return {
        row.name: ClassTerms(
            rank=row.rank,
            ttft_target_ms=row.ttft_target_ms,
            tpot_target_ms=row.tpot_target_ms,
            target_load_tokens=row.target_load_tokens,
            service_tier=row.service_tier,
        )
        for row in SLOClass.objects.all()
    }


def tenants() -> QuerySet[Tenant]:
    """All tenants with their class, by slug."""
    return Tenant.objects.select_related("slo_class").prefetch_related("allowed_classes")


def role_of(user: AbstractBaseUser | AnonymousUser) -> Membership.Role | None:
    """The person's role; superusers are admins, people without membership have none."""
    if not user.is_authenticated or not user.is_active:
        return None
    if getattr(user, "is_superuser", False):
        return Membership.Role.ADMIN
    membership = Membership.objects.filter(user_id=user.pk).first()
    return Membership.Role(membership.role) if membership else None


def may_operate(user: AbstractBaseUser | AnonymousUser) -> bool:
    """Whether the person may act on the fleet: drain, migrate, change classes."""
    return role_of(user) in {Membership.Role.OPERATOR, Membership.Role.ADMIN}


def _identity(key: ApiKey) -> KeyIdentity:
    tenant = key.tenant
    rules = class_rules()
    allowed = {tenant.slo_class.name, *tenant.allowed_classes.values_list("name", flat=True)}
    return KeyIdentity(
        tenant_id=tenant.pk,
        tenant_slug=tenant.slug,
        key_id=key.pk,
        key_prefix=key.prefix,
        slo_class=tenant.slo_class.name,
        allowed_classes=tuple(name for name in rules if name in allowed),
        class_rules=rules,
    )
