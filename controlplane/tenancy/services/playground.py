"""Keys for trying the model out of the console: short-lived, for inference alone, ended with their answer.

One row per person and tenant at a time: a key that has ended is given a new secret, so that
a long talk leaves one row in the tenant's list and one line in its usage.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from controlplane.tenancy import keys, selectors
from controlplane.tenancy.models import ApiKey, SLOClass, Tenant
from controlplane.tenancy.services.api_keys import IssuedKey
from controlplane.tenancy.services.errors import TenancyConflictError
from controlplane.tenancy.services.writing import save

NAME = "playground"
SCOPES = ["inference"]
LIFETIME = timedelta(minutes=10)


@transaction.atomic
def borrow_key(
    *, tenant: Tenant, actor: str, slo_class: SLOClass | None = None, reason: str = ""
) -> IssuedKey:
    """A key of ``tenant`` for one conversation, served under ``slo_class`` (``None``: the tenant's own).

    It dies by itself after ten minutes; revoke it once the answer has ended. Raises ``ValidationError``
    (``slo_class``) for a class beyond the tenant's rights, :class:`TenancyConflictError` for a closed tenant.
    """
    if not tenant.active:
        raise TenancyConflictError(f"tenant {tenant.slug} is closed: reopen it, or choose another")
    raw, now = keys.new_raw_key(), timezone.now()
    row = _ended(tenant, actor, now) or ApiKey()
    values = {
        "tenant": tenant,
        "name": NAME,
        "prefix": keys.shown_prefix(raw),
        "key_hash": keys.digest(raw),
        "scopes": SCOPES,
        "networks": [],
        "slo_class": slo_class,
        "created_at": now,
        "created_by": actor,
        "expires_at": now + LIFETIME,
        "revoked_at": None,
    }
    save(row, values, action="key.issue", actor=actor, reason=reason)
    if slo_class is not None:
        _check_class(row, slo_class, now)
    return IssuedKey(raw, row)


def _ended(tenant: Tenant, actor: str, now: datetime) -> ApiKey | None:
    """The person's own earlier one that nothing uses any more."""
    rows = ApiKey.objects.select_for_update(of=("self",)).filter(
        tenant=tenant, created_by=actor, name=NAME, scopes=SCOPES, replaces=None, maximum_class=None
    )
    rows = rows.filter(Q(revoked_at__isnull=False) | Q(expires_at__lte=now))
    return rows.filter(allowed_classes=None, quotas=None, boosts=None, replaced_by=None).first()


def _check_class(row: ApiKey, slo_class: SLOClass, now: datetime) -> None:
    identity = selectors.identity_of_key(row.pk, now)
    allowed = identity.allowed_classes if identity is not None else ()
    if slo_class.name not in allowed:
        known = ", ".join(allowed)
        raise ValidationError(
            {"slo_class": f"{slo_class.name} is not for tenant {row.tenant.slug}; it has: {known}"}
        )
