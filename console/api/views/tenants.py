"""Tenants, their usage, and the class they are served under."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db.models import Avg, Count, Q, QuerySet, Sum
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.inputs import TenantClass
from console.api.outputs import ClassOutput, TenantOutput
from console.api.pagination import page
from console.api.views.console_view import ConsoleView, actor_of, checked
from controlplane.records.selectors import finished_requests
from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import SLOClass, Tenant

USAGE_WINDOW = timedelta(minutes=15)


class Tenants(ConsoleView):
    """``GET``: all tenants by slug, with valid keys and the usage of the last 15 minutes."""

    def get(self, request: Request) -> Response:
        now = timezone.now()
        return page(
            _rows(now), TenantOutput, view=self, ordering="slug", context={"usage": recent_usage(now)}
        )


class TenantDetail(ConsoleView):
    def get(self, request: Request, slug: str) -> Response:
        now = timezone.now()
        row = get_object_or_404(_rows(now), slug=slug)
        return Response(TenantOutput(row, context={"usage": recent_usage(now)}).data)


class TenantSetClass(ConsoleView):
    """``POST {"slo_class", "reason"}``: the class of requests that name none, from now on."""

    def post(self, request: Request, slug: str) -> Response:
        given = checked(TenantClass, request)
        tenant = get_object_or_404(selectors.tenants(), slug=slug)
        slo_class = SLOClass.objects.filter(name=given["slo_class"]).first()
        if slo_class is None:
            known = ", ".join(SLOClass.objects.values_list("name", flat=True))
            raise exceptions.ValidationError(
                {"slo_class": f"there is no class {given['slo_class']!r}; there are: {known}"}
            )
        services.set_tenant_class(
            tenant=tenant, slo_class=slo_class, actor=actor_of(request), reason=given["reason"]
        )
        now = timezone.now()
        return Response(TenantOutput(_rows(now).get(slug=slug), context={"usage": recent_usage(now)}).data)


class Classes(ConsoleView):
    """``GET``: the SLO classes, first served first."""

    def get(self, request: Request) -> Response:
        return Response(
            {"next": None, "previous": None, "results": ClassOutput(SLOClass.objects.all(), many=True).data}
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
