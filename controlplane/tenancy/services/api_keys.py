"""API keys: issued once, rotated with an overlap, revoked within seconds everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from controlplane.tenancy import keys
from controlplane.tenancy.models import ApiKey, Quota, SLOClass, Tenant
from controlplane.tenancy.services.errors import TenancyConflictError
from controlplane.tenancy.services.writing import given, save
from controlplane.tenancy.types import KeyUse

DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key. ``raw`` is nowhere else: show it once."""

    raw: str
    row: ApiKey

    def __repr__(self) -> str:
        return f"IssuedKey({self.row})"


def issue_key(
    *,
    tenant: Tenant,
    name: str,
    actor: str,
    expires_at: datetime | None = None,
    reason: str = "",
    **fields: Any,
) -> str:
    """Make a key and return it raw: the only moment it can be seen. See :func:`new_key` for ``fields``."""
    return new_key(tenant=tenant, name=name, actor=actor, expires_at=expires_at, reason=reason, **fields).raw


@transaction.atomic
def new_key(
    *,
    tenant: Tenant,
    name: str,
    actor: str,
    expires_at: datetime | None = None,
    scopes: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    slo_class: SLOClass | None = None,
    allowed_classes: Iterable[SLOClass] | None = None,
    maximum_class: SLOClass | None = None,
    replaces: ApiKey | None = None,
    reason: str = "",
) -> IssuedKey:
    """Make a key; see :class:`ApiKey` for what it may be held to. Raises ``ValidationError``."""
    raw = keys.new_raw_key()
    values = given(
        expires_at=expires_at,
        scopes=list(scopes) if scopes is not None else None,
        networks=list(networks) if networks is not None else None,
        slo_class=slo_class,
        allowed_classes=list(allowed_classes) if allowed_classes is not None else None,
        maximum_class=maximum_class,
        replaces=replaces,
    )
    _check_expiry(expires_at)
    values |= {
        "tenant": tenant,
        "name": name,
        "prefix": keys.shown_prefix(raw),
        "key_hash": keys.digest(raw),
        "created_at": timezone.now(),
        "created_by": actor,
    }
    row = ApiKey()
    save(row, values, action="key.issue", actor=actor, reason=reason)
    return IssuedKey(raw, row)


@transaction.atomic
def change_key(*, key: ApiKey, actor: str, reason: str = "", **fields: Any) -> ApiKey:
    """Change name, scopes, networks, classes or expiry. Raises ``ValidationError``, and
    :class:`TenancyConflictError` for a revoked key.
    """
    _check_alive(key)
    for fixed in {"tenant", "prefix", "key_hash", "created_at"} & set(fields):
        raise ValidationError({fixed: "cannot be changed; issue another key"})
    _check_expiry(fields.get("expires_at"))
    save(key, fields, action="key.change", actor=actor, reason=reason)
    return key


@transaction.atomic
def rotate_key(
    *, key: ApiKey, actor: str, overlap: timedelta = DEFAULT_OVERLAP, reason: str = ""
) -> IssuedKey:
    """A new key with the same rights and limits; the old one works on for ``overlap`` and then no more.

    Raises ``ValidationError`` for an overlap that is negative or above 90 days, and
    :class:`TenancyConflictError` for a key that is revoked or was rotated already.
    """
    _check_alive(key)
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise ValidationError({"overlap": f"must be from 0 to {MAX_OVERLAP.days} days"})
    if key.replaced_by.filter(revoked_at__isnull=True).exists():
        raise TenancyConflictError(f"key {key.prefix}… was rotated already: rotate the newer one")
    issued = new_key(
        tenant=key.tenant,
        name=key.name,
        actor=actor,
        scopes=key.scopes,
        networks=key.networks,
        slo_class=key.slo_class,
        allowed_classes=key.allowed_classes.all(),
        maximum_class=key.maximum_class,
        replaces=key,
        reason=reason,
    )
    _copy_quotas(key, issued.row)
    moment = timezone.now() + overlap
    until = moment if key.expires_at is None else min(moment, key.expires_at)
    save(key, {"expires_at": until}, action="key.rotate", actor=actor, reason=reason)
    return issued


@transaction.atomic
def revoke_key(*, key: ApiKey, actor: str, reason: str = "") -> None:
    """Refuse the key from now on; gateways follow at once by event, at the latest within 5 s."""
    revoked_at = key.revoked_at or timezone.now()
    save(key, {"revoked_at": revoked_at}, action="key.revoke", actor=actor, reason=reason)


def note_key_uses(uses: Sequence[KeyUse]) -> int:
    """Remember when and from where keys were last used; older news is ignored. Returns the keys touched."""
    newest: dict[int, KeyUse] = {}
    for use in uses:
        if use.key_id not in newest or newest[use.key_id].at < use.at:
            newest[use.key_id] = use
    touched = 0
    for use in newest.values():
        rows = ApiKey.objects.filter(pk=use.key_id)
        rows = rows.filter(Q(last_used_at__isnull=True) | Q(last_used_at__lt=use.at))
        touched += rows.update(last_used_at=use.at, last_used_from=use.address)
    return touched


def _copy_quotas(old: ApiKey, new: ApiKey) -> None:
    for row in Quota.objects.filter(key=old):
        row.pk, row.key = None, new
        row._state.adding = True
        row.save()


def _check_alive(key: ApiKey) -> None:
    if key.revoked_at is not None:
        raise TenancyConflictError(f"key {key.prefix}… is revoked: issue a new one")


def _check_expiry(moment: datetime | None) -> None:
    if moment is not None and timezone.is_naive(moment):
        raise ValidationError({"expires_at": "needs a time zone, as in 2030-01-31T00:00:00Z"})
