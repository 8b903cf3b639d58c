"""Reading tenants, keys, classes, limits and roles."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Q, QuerySet

from controlplane.tenancy import keys
from controlplane.tenancy.models import ApiKey, Boost, ClassRights, Membership, Quota, SLOClass, Tenant
from controlplane.tenancy.rights import Rights, resolve
from controlplane.tenancy.types import ClassTerms, KeyIdentity, LimitTerms

Person = AbstractBaseUser | AnonymousUser

# ------------------------------------------------------------------ for the gateways


def authenticate_key(raw_key: str, now: datetime) -> KeyIdentity | None:
    """Whom this bearer key speaks for at ``now``; ``None`` if unknown, expired, revoked or closed.

    A handful of queries; callers cache the answer for at most 5 s, which bounds
    how long a revoked key goes on working.
    """
    if not keys.is_well_formed(raw_key):
        return None
    # A guess costs one look into an index; all that hangs on a key is read for known keys alone.
    known = ApiKey.objects.filter(key_hash=keys.digest(raw_key)).values_list("pk", flat=True).first()
    return identity_of_key(known, now) if known is not None else None


def identity_of_key(key_id: int, now: datetime) -> KeyIdentity | None:
    """The same by the key's number: what its requests may be at ``now``."""
    key = _valid_keys(now).filter(pk=key_id).first()
    return _identity(key, now) if key else None


def reclassified_tenants(since: datetime) -> dict[int, datetime]:
    """Tenants whose running requests are to follow their present rights, as asked after ``since``.

    Requests that arrived before the moment are meant. Read every few seconds, it makes
    a gateway that missed the event do the same a little later.
    """
    rows = Tenant.objects.filter(reclassified_at__gt=since).values_list("pk", "reclassified_at")
    return {pk: moment for pk, moment in rows if moment is not None}


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


# ------------------------------------------------------------------ for people


def tenants() -> QuerySet[Tenant]:
    """All tenants with their classes, by slug."""
    return Tenant.objects.select_related("slo_class", "maximum_class").prefetch_related("allowed_classes")


def slo_classes() -> QuerySet[SLOClass]:
    """All classes, first served first."""
    return SLOClass.objects.all()


def api_keys(tenant: Tenant | None = None) -> QuerySet[ApiKey]:
    """Keys, newest first, of one tenant or of all."""
    rows = ApiKey.objects.select_related("tenant", "slo_class", "maximum_class", "replaces")
    rows = rows.prefetch_related("allowed_classes")
    return rows.filter(tenant=tenant) if tenant is not None else rows


def quotas(tenant: Tenant | None = None) -> QuerySet[Quota]:
    """All limits; of one tenant: its own and its keys'."""
    rows = Quota.objects.select_related("tenant", "key__tenant", "slo_class")
    return rows.filter(Q(tenant=tenant) | Q(key__tenant=tenant)) if tenant is not None else rows


def boosts(tenant: Tenant | None = None, *, in_force_at: datetime | None = None) -> QuerySet[Boost]:
    """Boosts, newest first."""
    rows = Boost.objects.select_related("tenant", "key", "slo_class")
    if tenant is not None:
        rows = rows.filter(tenant=tenant)
    if in_force_at is not None:
        rows = rows.filter(starts_at__lte=in_force_at, expires_at__gt=in_force_at, ended_at__isnull=True)
    return rows


def members(tenant: Tenant | None = None) -> QuerySet[Membership]:
    """Memberships by user name; of one tenant: its owners."""
    rows = Membership.objects.select_related("user", "tenant")
    return rows.filter(tenant=tenant) if tenant is not None else rows


def limits_of(tenant: Tenant) -> list[LimitTerms]:
    """All limits that bind the tenant's requests, its keys' and the classes' included."""
    rows = quotas().filter(Q(tenant=tenant) | Q(key__tenant=tenant) | Q(tenant=None, key=None))
    return [limit_terms(row) for row in rows]


def role_of(user: Person) -> Membership.Role | None:
    """The person's role; superusers are admins, people without membership have none.

    A role across the fleet counts before the ownership of tenants.
    """
    if not user.is_authenticated or not user.is_active:
        return None
    return roles_of([user])[user.pk]


def roles_of(users: Iterable[Person]) -> dict[Any, Membership.Role | None]:
    """As :func:`role_of`, by the primary keys of people who are active, in one query."""
    superuser = {user.pk: getattr(user, "is_superuser", False) for user in users}
    rows = Membership.objects.filter(user_id__in=[pk for pk, is_super in superuser.items() if not is_super])
    held: dict[Any, set[Membership.Role]] = {pk: set() for pk in superuser}
    for user_id, role in rows.values_list("user_id", "role"):
        held[user_id].add(Membership.Role(role))
    return {pk: Membership.Role.ADMIN if superuser[pk] else _strongest(roles) for pk, roles in held.items()}


def _strongest(roles: set[Membership.Role]) -> Membership.Role | None:
    fleet = roles - {Membership.Role.TENANT_OWNER}
    return next(iter(fleet or roles), None)


def owned_tenants(user: Person) -> QuerySet[Tenant]:
    """The tenants that the person owns, by slug."""
    if not user.is_authenticated or not user.is_active:
        return Tenant.objects.none()
    return tenants().filter(memberships__user_id=user.pk, memberships__role=Membership.Role.TENANT_OWNER)


def owned_tenant(user: Person) -> Tenant | None:
    """The first of them, where one is all that is asked for."""
    return owned_tenants(user).first()


def may_operate(user: Person) -> bool:
    """Whether the person may act on the fleet: drain, migrate, change classes."""
    return role_of(user) in {Membership.Role.OPERATOR, Membership.Role.ADMIN}


# ------------------------------------------------------------------ inside


def limit_terms(row: Quota) -> LimitTerms:
    """A row of limits as the gateways see it."""
    name = row.slo_class.name if row.slo_class else ""
    if row.key_id is not None:
        scope, subject = "key", f"key:{row.key_id}"
    elif row.tenant_id is not None:
        scope, subject = "tenant", f"tenant:{row.tenant_id}"
    else:
        scope, subject = "class", "class"
    if name and scope != "class":
        scope = f"{scope} in class"
    return LimitTerms(
        scope=scope,
        subject=f"{subject}:{name}" if name else subject,
        slo_class=name,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        concurrent_requests=row.concurrent_requests,
        queued_requests=row.queued_requests,
        queue_seconds=row.queue_seconds,
    )


def _valid_keys(now: datetime) -> QuerySet[ApiKey]:
    rows = api_keys().select_related("tenant__slo_class", "tenant__maximum_class")
    rows = rows.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now))
    return rows.filter(revoked_at__isnull=True, tenant__active=True)


def _identity(key: ApiKey, now: datetime) -> KeyIdentity:
    tenant, rules = key.tenant, class_rules()
    in_force = [row for row in boosts(tenant, in_force_at=now) if row.key_id in (None, key.pk)]
    served = resolve(
        _rights(tenant, tenant.slo_class, tenant.allowed_classes.all()),
        _rights(key, key.slo_class, key.allowed_classes.all()),
        [row.slo_class.name for row in in_force],
        _ranks(rules),
    )
    limits = quotas().filter(Q(tenant=tenant) | Q(key=key) | Q(tenant=None, key=None))
    return KeyIdentity(
        tenant_id=tenant.pk,
        tenant_slug=tenant.slug,
        key_id=key.pk,
        key_prefix=key.prefix,
        slo_class=served.default,
        allowed_classes=served.allowed,
        class_rules=rules,
        scopes=frozenset(key.scopes),
        networks=tuple(ipaddress.ip_network(each) for each in key.networks),
        expires_at=key.expires_at,
        weight=tenant.weight,
        refuse_above_maximum=tenant.refuse_above_maximum,
        limits=tuple(limit_terms(row) for row in limits),
        boosted_until=max((row.expires_at for row in in_force), default=None),
    )


def _rights(owner: ClassRights, default: SLOClass | None, allowed: Iterable[SLOClass]) -> Rights:
    return Rights(
        default=default.name if default else None,
        allowed=frozenset(each.name for each in allowed),
        maximum=owner.maximum_class.name if owner.maximum_class else None,
    )


def _ranks(rules: Mapping[str, ClassTerms]) -> dict[str, int]:
    return {name: terms.rank for name, terms in rules.items()}
