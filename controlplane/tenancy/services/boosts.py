"""A better class for a while."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from controlplane.tenancy.models import ApiKey, Boost, SLOClass, Tenant
from controlplane.tenancy.services.errors import TenancyConflictError
from controlplane.tenancy.services.tenants import update_tenant
from controlplane.tenancy.services.writing import save

LONGEST = timedelta(days=31)


@transaction.atomic
def grant_boost(
    *,
    tenant: Tenant,
    slo_class: SLOClass,
    expires_at: datetime,
    actor: str,
    reason: str,
    key: ApiKey | None = None,
    starts_at: datetime | None = None,
    apply_to_running: bool = False,
) -> Boost:
    """Serve the tenant (or one of its keys) under ``slo_class`` until ``expires_at``, at most 31 days.

    Requests that arrive meanwhile get it (within 5 s of the start); with
    ``apply_to_running`` those that run or wait as well. Raises ``ValidationError``.
    """
    starts_at = starts_at or timezone.now()
    if expires_at <= max(starts_at, timezone.now()):
        raise ValidationError({"expires_at": "must be in the future, and after the start"})
    if expires_at - starts_at > LONGEST:
        raise ValidationError(
            {"expires_at": f"a boost lasts at most {LONGEST.days} days; change the tenant's class instead"}
        )
    if key is not None and key.tenant_id != tenant.pk:
        raise ValidationError({"key": f"is not a key of tenant {tenant.slug!r}"})
    if not reason.strip():
        raise ValidationError({"reason": "say why: the next shift will want to know"})
    values = {
        "tenant": tenant,
        "key": key,
        "slo_class": slo_class,
        "starts_at": starts_at,
        "expires_at": expires_at,
        "reason": reason,
        "granted_by": actor,
    }
    boost = Boost()
    save(boost, values, action="boost.grant", actor=actor, reason=reason)
    if apply_to_running:
        update_tenant(tenant=tenant, actor=actor, reason=reason, apply_to_running=True)
    return boost


@transaction.atomic
def end_boost(*, boost: Boost, actor: str, reason: str = "", apply_to_running: bool = False) -> Boost:
    """End it before its time. Raises :class:`TenancyConflictError` when it is over already."""
    now = timezone.now()
    if boost.ended_at is not None or boost.expires_at <= now:
        raise TenancyConflictError(f"this boost ended at {boost.ended_at or boost.expires_at:%Y-%m-%d %H:%M}")
    save(boost, {"ended_at": now}, action="boost.end", actor=actor, reason=reason)
    if apply_to_running:
        update_tenant(tenant=boost.tenant, actor=actor, reason=reason, apply_to_running=True)
    return boost
