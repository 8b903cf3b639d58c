"""How every change of tenancy is written: checked, saved, audited with before and after, announced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import models
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import TenancyChanged
from controlplane.records.services import audit
from controlplane.tenancy.models import ApiKey, Boost, Membership, Quota, SLOClass, Tenant

Row = SLOClass | Tenant | ApiKey | Quota | Boost | Membership
HIDDEN = frozenset({"id", "key_hash", "created_at"})


def facts(row: models.Model) -> dict[str, Any]:
    """What a row says, as plain data: for the audit list and for diffs."""
    found: dict[str, Any] = {}
    for field in row._meta.concrete_fields:
        if field.name not in HIDDEN:
            # The audit list masks what is called "key".
            name = "of_key" if field.name == "key" else field.name
            found[name] = _plain(getattr(row, field.name))
    if row.pk is not None:
        for many in row._meta.many_to_many:
            found[many.name] = sorted(str(each) for each in getattr(row, many.name).all())
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, models.Model) or hasattr(value, "isoformat"):
        return str(value) if isinstance(value, models.Model) else value.isoformat()
    return list(value) if isinstance(value, tuple) else value


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Only the fields in which the two differ."""
    names = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in names}, {name: after[name] for name in names}


def assign(row: models.Model, values: Mapping[str, Any]) -> None:
    """Set fields by name and check the row. Raises ``ValidationError`` with the field's name."""
    for name, value in values.items():
        try:
            row._meta.get_field(name)
        except FieldDoesNotExist:
            raise ValidationError({name: f"{type(row).__name__} has no field {name!r}"}) from None
        if name not in {many.name for many in row._meta.many_to_many}:
            setattr(row, name, value)
    row.full_clean()


def save(row: Row, values: Mapping[str, Any], *, action: str, actor: str, reason: str) -> bool:
    """Assign, check, save, audit and announce; ``False`` when nothing changed."""
    new = row.pk is None
    before = {} if new else facts(type(row)._default_manager.get(pk=row.pk))
    assign(row, values)
    row.save()
    for many in row._meta.many_to_many:
        if many.name in values:
            getattr(row, many.name).set(values[many.name])
    old, now = changed(before, facts(row))
    if not (old or now):
        return False
    note(row, action=action, actor=actor, reason=reason, before=old, after=now)
    return True


def note(
    row: Row,
    *,
    action: str,
    actor: str,
    reason: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Audit a change, and tell the gateways (which forget the keys it may concern) and the dashboards."""
    kind, name, tenant = identify(row)
    audit(
        actor=actor,
        action=action,
        object_type=kind,
        object_id=name,
        before=dict(before or {}),
        after=dict(after or {}),
        reason=reason,
    )
    publish(
        TenancyChanged.of(at=timezone.now(), tenant=tenant, kind=kind, name=name, action=action, actor=actor)
    )


def identify(row: Row) -> tuple[str, str, str]:
    """Kind, name for people, and slug of the tenant it concerns (empty: all)."""
    match row:
        case SLOClass():
            return "slo_class", row.name, ""
        case Tenant():
            return "tenant", row.slug, row.slug
        case ApiKey():
            return "api_key", str(row.pk), row.tenant.slug
        case Boost():
            return "boost", str(row.pk), row.tenant.slug
        case Membership():
            return "person", row.user.get_username(), row.tenant.slug if row.tenant else ""
        case Quota():
            owner = row.tenant or (row.key.tenant if row.key else None)
            return "quota", row.subject, owner.slug if owner else ""


def given(**values: Any) -> dict[str, Any]:
    """Those that are not ``None``: what the caller said."""
    return {name: value for name, value in values.items() if value is not None}


def names(rows: Iterable[models.Model]) -> list[str]:
    return sorted(str(row) for row in rows)
