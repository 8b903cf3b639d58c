"""Tenants, their usage, and the class they are served under."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import django_filters
from django.db.models import Avg, Count, Q, QuerySet, Sum
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts.principals import Role
from console.api.filters import Flag, Word
from console.api.inputs import Reason
from console.api.inputs.tenants import NewTenant, TenantChange, TenantClass
from console.api.listing import Listing
from console.api.matching import unchanged, with_etag
from console.api.outputs.tenants import TenantOutput, tenant_state
from console.api.schema import contract
from console.api.views.console_view import ConsoleView, actor_of, checked
from console.api.views.tenants.lookups import class_named, find_tenant, with_classes
from controlplane.records.selectors import finished_requests
from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import Tenant

USAGE_WINDOW = timedelta(minutes=15)
OWNERS_FIELDS = frozenset({"name", "description"})
"""What a tenant's owner may change of it; rights and weight are the admin's."""


class TenantFilters(django_filters.FilterSet):
    slo_class = Word(field_name="slo_class__name")
    active = Flag()


class Tenants(ConsoleView):
    """Tenants by slug, with valid keys and the usage of the last 15 minutes."""

    listing = Listing(
        output=TenantOutput,
        ordering={"slug": "slug", "name": "name", "created_at": "created_at"},
        default="slug",
        filters=TenantFilters,
        search=("slug", "name", "description"),
    )

    @contract(lists=True)
    def get(self, request: Request) -> Any:
        now = timezone.now()
        return self.list(self.own(_rows(now), "slug"), usage=recent_usage(now))

    @contract(body=NewTenant, answer=TenantOutput, status=201)
    def post(self, request: Request) -> Response:
        """A new tenant."""
        given = checked(NewTenant, request)
        given.pop("apply_to_running")
        fields = with_classes(given)
        tenant = services.create_tenant(**fields, actor=actor_of(request), reason=given["reason"])
        return answered(tenant.slug, status=201)


class TenantDetail(ConsoleView):
    """One tenant."""

    @contract(answer=TenantOutput)
    def get(self, request: Request, slug: str) -> Response:
        find_tenant(slug, self.principal)
        return answered(slug)

    @contract(body=TenantChange, answer=TenantOutput, if_match=True)
    def patch(self, request: Request, slug: str) -> Response:
        """Change what is given; an owner may change name and description."""
        given = checked(TenantChange, request)
        find_tenant(slug, self.principal)
        fields = with_classes(given)
        if self.principal.role == Role.TENANT_OWNER:
            _refuse_beyond_owner(set(request.data) - {"reason", "change_reason"})
        with unchanged(request, Tenant.objects.all(), tenant_state, slug=slug) as tenant:
            services.update_tenant(tenant=tenant, **fields, actor=actor_of(request), reason=given["reason"])
        return answered(slug)


class TenantClose(ConsoleView):
    """Refuse all keys of a tenant from now on; what runs is finished."""

    @contract(body=Reason, answer=TenantOutput)
    def post(self, request: Request, slug: str) -> Response:
        given = checked(Reason, request)
        tenant = find_tenant(slug, self.principal)
        services.close_tenant(tenant=tenant, actor=actor_of(request), reason=given["reason"])
        return answered(slug)


class TenantReopen(ConsoleView):
    """Let a closed tenant's keys in again."""

    @contract(body=Reason, answer=TenantOutput)
    def post(self, request: Request, slug: str) -> Response:
        given = checked(Reason, request)
        tenant = find_tenant(slug, self.principal)
        services.reopen_tenant(tenant=tenant, actor=actor_of(request), reason=given["reason"])
        return answered(slug)


class TenantSetClass(ConsoleView):
    """The class of requests that name none, from now on."""

    @contract(body=TenantClass, answer=TenantOutput)
    def post(self, request: Request, slug: str) -> Response:
        given = checked(TenantClass, request)
        services.set_tenant_class(
            tenant=find_tenant(slug, self.principal),
            slo_class=class_named(given["slo_class"]),
            apply_to_running=given["apply_to_running"],
            actor=actor_of(request),
            reason=given["reason"],
        )
        return answered(slug)


def answered(slug: str, status: int = 200) -> Response:
    """The tenant as it is now, with its ETag."""
    now = timezone.now()
    row = _rows(now).get(slug=slug)
    response = Response(TenantOutput(row, context={"usage": recent_usage(now)}).data, status=status)
    return with_etag(response, tenant_state(row))


def _refuse_beyond_owner(fields: set[str]) -> None:
    if beyond := sorted(fields - OWNERS_FIELDS):
        raise exceptions.PermissionDenied(
            f"An owner may change name and description, not {', '.join(beyond)}."
        )


def _rows(now: datetime) -> QuerySet[Tenant]:
    valid = Q(keys__revoked_at__isnull=True) & (
        Q(keys__expires_at__isnull=True) | Q(keys__expires_at__gt=now)
    )
    return selectors.tenants().annotate(
        valid_keys=Count("keys", filter=valid & Q(keys__isnull=False), distinct=True)
    )


def recent_usage(now: datetime) -> dict[int, dict[str, Any]]:
    """Per tenant id, what finished in the window. One query."""
    rows = (
        finished_requests(since=now - USAGE_WINDOW)
        .order_by()
        .values("tenant_id")
        .annotate(
            requests=Count("id"),
            prompt_tokens=Sum("prompt_tokens"),
            output_tokens=Sum("output_tokens"),
            ttft_mean_ms=Avg("ttft_ms"),
        )
    )
    return {
        tenant_id: {name: value for name, value in row.items() if name != "tenant_id"}
        for row in rows
        if (tenant_id := row["tenant_id"]) is not None
    }
