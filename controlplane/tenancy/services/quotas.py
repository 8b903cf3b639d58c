"""Limits of keys, tenants and classes."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from controlplane.tenancy.models import ApiKey, Quota, SLOClass, Tenant
from controlplane.tenancy.services.writing import facts, note, save

LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent_requests",
    "queued_requests",
    "queue_seconds",
)


@transaction.atomic
def set_quota(
    *,
    tenant: Tenant | None = None,
    key: ApiKey | None = None,
    slo_class: SLOClass | None = None,
    actor: str,
    reason: str = "",
    **limits: Any,
) -> Quota:
    """Set limits of a subject; those not named stay, ``None`` lifts one. Gateways follow within 5 s.

    The subject is a tenant, a key, a class, or a tenant or a key within a class.
    ``limits``: requests_per_minute, tokens_per_minute, concurrent_requests,
    queued_requests, queue_seconds. Raises ``ValidationError``.
    """
    if tenant is not None and key is not None:
        raise ValidationError({"key": "limits are of a tenant or of a key, not of both"})
    if tenant is None and key is None and slo_class is None:
        raise ValidationError({"tenant": "say whose limits: a tenant, a key or a class"})
    for unknown in set(limits) - set(LIMITS):
        raise ValidationError({unknown: f"no such limit; there are: {', '.join(LIMITS)}"})
    row = Quota.objects.filter(tenant=tenant, key=key, slo_class=slo_class).first()
    row = row or Quota(tenant=tenant, key=key, slo_class=slo_class)
    save(row, limits, action="quota.set", actor=actor, reason=reason)
    return row


@transaction.atomic
def clear_quota(*, quota: Quota, actor: str, reason: str = "") -> None:
    """Lift all limits of one subject."""
    note(quota, action="quota.clear", actor=actor, reason=reason, before=facts(quota))
    quota.delete()
