"""Limits of tenants, keys and classes, and boosts."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts.principals import Role
from console.api.filters import Flag, Word
from console.api.inputs import Reason
from console.api.inputs.tenants import EndBoost, Limits, NewBoost
from console.api.listing import Listing
from console.api.outputs.tenants import BoostOutput, LimitOutput, LimitUsesOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.api.views.tenants.lookups import class_named, find_tenant
from controlplane.tenancy import selectors, services
from controlplane.tenancy.limit_use import limit_use
from controlplane.tenancy.models import ApiKey, Tenant


class TenantLimits(ConsoleView):
    """Limits of a tenant and of its keys."""

    listing = Listing(output=LimitOutput, ordering={"id": "id"}, default="id")

    @contract(lists=True)
    def get(self, request: Request, slug: str) -> Any:
        return self.list(selectors.quotas(find_tenant(slug, self.principal)))

    @contract(body=Limits, answer=LimitOutput)
    def post(self, request: Request, slug: str) -> Response:
        """Set limits of the tenant, or of one of its keys; an owner may do so for keys only."""
        given = checked(Limits, request)
        tenant = find_tenant(slug, self.principal)
        key = named_key(tenant, given.pop("key", None))
        if key is None and self.principal.role == Role.TENANT_OWNER:
            raise exceptions.PermissionDenied(
                "The tenant's own limits are the admin's; name one of your keys."
            )
        return Response(LimitOutput(set_limits(given, request, tenant, key)).data)


class TenantLimitUse(ConsoleView):
    """Every limit that binds the tenant's requests, with its present use (null: not counted in common)."""

    @contract(answer=LimitUsesOutput)
    def get(self, request: Request, slug: str) -> Response:
        tenant = find_tenant(slug, self.principal)
        found = [asdict(each) for each in limit_use(selectors.limits_of(tenant))]
        return Response({"results": found})


class TenantLimit(ConsoleView):
    """Limits of one subject."""

    @contract(body=Reason, status=204)
    def delete(self, request: Request, slug: str, limit_id: int) -> Response:
        """Lift all limits of this subject; an owner may do so for keys only."""
        given = checked(Reason, request)
        quota = get_object_or_404(selectors.quotas(find_tenant(slug, self.principal)), pk=limit_id)
        if quota.key_id is None and self.principal.role == Role.TENANT_OWNER:
            raise exceptions.PermissionDenied("The tenant's own limits are the admin's.")
        services.clear_quota(quota=quota, actor=actor_of(request), reason=given["reason"])
        return Response(status=204)


class LimitFilters(django_filters.FilterSet):
    tenant = Word(field_name="tenant__slug")
    slo_class = Word(field_name="slo_class__name")


class AllLimits(ConsoleView):
    """All limits of the fleet."""

    listing = Listing(output=LimitOutput, ordering={"id": "id"}, default="id", filters=LimitFilters)

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(selectors.quotas())

    @contract(body=Limits, answer=LimitOutput)
    def post(self, request: Request) -> Response:
        """Set limits of a class, shared by all its requests."""
        given = checked(Limits, request)
        if given.pop("key", None) is not None or not given.get("slo_class"):
            raise exceptions.ValidationError(
                {"slo_class": "name a class; a tenant's limits are set at the tenant"}
            )
        return Response(LimitOutput(set_limits(given, request, None, None)).data)


class Boosts(ConsoleView):
    """Boosts, newest first."""

    class Filters(django_filters.FilterSet):
        tenant = Word(field_name="tenant__slug")
        in_force = Flag(method="by_force")

        def by_force(self, rows: Any, name: str, value: bool | None) -> Any:
            if value is None:
                return rows
            now = timezone.now()
            inside = {"starts_at__lte": now, "expires_at__gt": now, "ended_at__isnull": True}
            return rows.filter(**inside) if value else rows.exclude(**inside)

    listing = Listing(
        output=BoostOutput,
        ordering={"id": "id", "starts_at": "starts_at", "expires_at": "expires_at"},
        default="-id",
        filters=Filters,
        search=("tenant__slug", "slo_class__name", "reason", "granted_by"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        return self.list(self.own(selectors.boosts(), "tenant__slug"))


class TenantBoosts(ConsoleView):
    """A better class for a while."""

    @contract(body=NewBoost, answer=BoostOutput, status=201)
    def post(self, request: Request, slug: str) -> Response:
        """Serve the tenant, or one of its keys, under a better class until then. Needs a reason."""
        given = checked(NewBoost, request)
        tenant = find_tenant(slug, self.principal)
        key = named_key(tenant, given.pop("key"))
        given["slo_class"] = class_named(given["slo_class"])
        boost = services.grant_boost(tenant=tenant, key=key, **given, actor=actor_of(request))
        return Response(BoostOutput(boost).data, status=201)


class BoostEnd(ConsoleView):
    """End a boost before its time."""

    @contract(body=EndBoost, answer=BoostOutput)
    def post(self, request: Request, boost_id: int) -> Response:
        given = checked(EndBoost, request)
        boost = get_object_or_404(selectors.boosts(), pk=boost_id)
        return Response(BoostOutput(services.end_boost(boost=boost, **given, actor=actor_of(request))).data)


def named_key(tenant: Tenant, key_id: int | None) -> ApiKey | None:
    """Raises ``ValidationError`` for a key that the tenant does not have."""
    if key_id is None:
        return None
    key = selectors.api_keys(tenant).filter(pk=key_id).first()
    if key is None:
        raise exceptions.ValidationError({"key": f"tenant {tenant.slug!r} has no key {key_id}"})
    return key


def set_limits(given: dict[str, Any], request: Request, tenant: Tenant | None, key: ApiKey | None) -> Any:
    name = given.pop("slo_class", None)
    return services.set_quota(
        tenant=None if key is not None else tenant,
        key=key,
        slo_class=class_named(name) if name else None,
        actor=actor_of(request),
        **given,
    )
