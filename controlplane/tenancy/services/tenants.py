"""Tenants and their classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import TenantClassChanged
from controlplane.tenancy.models import SLOClass, Tenant
from controlplane.tenancy.services.errors import TenancyConflictError
from controlplane.tenancy.services.writing import save

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
    **fields: Any,
) -> Tenant:
    """A new tenant; by default of the class ``standard`` and allowed every class.

    ``fields``: description, maximum_class, refuse_above_maximum, weight. Raises
    ``ValidationError`` for a bad or taken slug, and for what no field may be.
    """
    values = {
        "slug": slug,
        "name": name or slug,
        "slo_class": slo_class or _class_by_name(DEFAULT_CLASS),
        "allowed_classes": SLOClass.objects.all() if allowed_classes is None else list(allowed_classes),
        **fields,
    }
    tenant = Tenant()
    save(tenant, values, action="tenant.create", actor=actor, reason=reason)
    return tenant


@transaction.atomic
def update_tenant(
    *, tenant: Tenant, actor: str, reason: str = "", apply_to_running: bool = False, **fields: Any
) -> Tenant:
    """Change what is given: name, description, slo_class, allowed_classes, maximum_class,
    refuse_above_maximum, weight. Requests that arrive from now on are served so; with
    ``apply_to_running`` those that run or wait follow within seconds. Raises ``ValidationError``.
    """
    if "slug" in fields and fields["slug"] != tenant.slug:
        raise ValidationError({"slug": "a tenant's slug cannot change: logs, metrics and clients hold it"})
    previous = Tenant.objects.select_related("slo_class").get(pk=tenant.pk).slo_class
    if apply_to_running:
        fields["reclassified_at"] = timezone.now()
    wrote = save(tenant, fields, action="tenant.update", actor=actor, reason=reason)
    if wrote and (tenant.slo_class != previous or apply_to_running):
        _announce(tenant, previous, actor, reason, apply_to_running=apply_to_running)
    return tenant


def set_tenant_class(
    *, tenant: Tenant, slo_class: SLOClass, actor: str, reason: str = "", apply_to_running: bool = False
) -> Tenant:
    """Change the class served by default: of requests from now on, and of running ones if asked.

    A maximum below the new class would keep it from being served: it is lifted to the class.
    """
    fields: dict[str, Any] = {"slo_class": slo_class}
    if tenant.maximum_class is not None and slo_class.rank < tenant.maximum_class.rank:
        fields["maximum_class"] = slo_class
    return update_tenant(
        tenant=tenant, actor=actor, reason=reason, apply_to_running=apply_to_running, **fields
    )


@transaction.atomic
def close_tenant(*, tenant: Tenant, actor: str, reason: str = "") -> Tenant:
    """Refuse all its keys from now on; what runs is finished. Raises :class:`TenancyConflictError`."""
    if not tenant.active:
        raise TenancyConflictError(f"tenant {tenant.slug!r} is closed already")
    save(tenant, {"active": False}, action="tenant.close", actor=actor, reason=reason)
    return tenant


@transaction.atomic
def reopen_tenant(*, tenant: Tenant, actor: str, reason: str = "") -> Tenant:
    """Let its keys in again. Raises :class:`TenancyConflictError`."""
    if tenant.active:
        raise TenancyConflictError(f"tenant {tenant.slug!r} is open")
    save(tenant, {"active": True}, action="tenant.reopen", actor=actor, reason=reason)
    return tenant


def _announce(tenant: Tenant, previous: SLOClass, actor: str, reason: str, *, apply_to_running: bool) -> None:
    publish(
        TenantClassChanged.of(
            at=timezone.now(),
            tenant=tenant.slug,
            slo_class=tenant.slo_class.name,
            previous=previous.name,
            actor=actor,
            reason=reason,
            apply_to_running=apply_to_running,
        )
    )


def _class_by_name(name: str) -> SLOClass:
    row = SLOClass.objects.filter(name=name).first()
    if row is None:
        raise ValidationError({"slo_class": f"there is no class {name!r}: say which one the tenant gets"})
    return row
