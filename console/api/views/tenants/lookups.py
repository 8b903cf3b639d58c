"""Finding what a path or a body names; what a tenant owner may not see does not exist for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework import exceptions

from console.accounts.principals import Principal, Role
from controlplane.tenancy import selectors
from controlplane.tenancy.models import ApiKey, SLOClass, Tenant


def find_tenant(slug: str, caller: Principal) -> Tenant:
    """Raises ``Http404``, for another's tenant as for none."""
    rows = selectors.tenants()
    if caller.role == Role.TENANT_OWNER:
        rows = rows.filter(slug__in=caller.tenants)
    return get_object_or_404(rows, slug=slug)


def find_key(tenant: Tenant, key_id: int) -> ApiKey:
    """Raises ``Http404``."""
    return get_object_or_404(selectors.api_keys(tenant), pk=key_id)


def class_named(name: str, field: str = "slo_class") -> SLOClass:
    """Raises ``ValidationError`` naming the classes that exist."""
    return classes_named([name], field)[0]


def classes_named(names: Iterable[str], field: str) -> list[SLOClass]:
    """In the order given. Raises ``ValidationError`` naming the classes that exist."""
    known = {row.name: row for row in selectors.slo_classes()}
    found = []
    for name in names:
        if name not in known:
            there_are = ", ".join(known)
            raise exceptions.ValidationError({field: f"there is no class {name!r}; there are: {there_are}"})
        found.append(known[name])
    return found


def with_classes(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a change with rows in place of the classes' names."""
    fields = {name: value for name, value in given.items() if name != "reason"}
    for name in ("slo_class", "maximum_class"):
        if fields.get(name) is not None:
            fields[name] = class_named(fields[name], name)
    if fields.get("allowed_classes") is not None:
        fields["allowed_classes"] = classes_named(fields["allowed_classes"], "allowed_classes")
    return fields
