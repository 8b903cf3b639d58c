"""What tenants used, and whether their classes' targets were kept."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django.http import HttpResponse
from django.utils import timezone
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts.principals import Role
from console.api.listing import check_parameters
from console.api.outputs.tenants import AttainmentOutput, UsageOutput
from console.api.schema import contract
from console.api.views.console_view import ConsoleView
from console.api.views.tenants.lookups import find_tenant
from controlplane.records import usage as records
from controlplane.tenancy import selectors

GROUPS = {"day": "day", "tenant": "tenant_id", "key": "key_id", "slo_class": "slo_class", "model": "model"}
LONGEST = timedelta(days=400)
PARAMETERS = {
    "since": "First day, as 2026-11-01; a week ago by default.",
    "until": "Last day, included; today by default.",
    "by": f"Comma-separated, of: {', '.join(GROUPS)}; day by default.",
    "tenant": "Of one tenant alone.",
    "slo_class": "Of one class alone.",
    "export": "csv: as a file.",
}


class Usage(ConsoleView):
    """Requests and tokens by day, tenant, key, class or model; an owner sees their own tenants."""

    @contract(answer=UsageOutput, query=PARAMETERS, problems=(404,))
    def get(self, request: Request) -> Any:
        check_parameters(request, frozenset(PARAMETERS))
        asked = request.query_params
        today = timezone.now().date()
        since = _day("since", asked.get("since"), today - timedelta(days=7))
        until = _day("until", asked.get("until"), today)
        if not timedelta(0) <= until - since <= LONGEST:
            raise exceptions.ValidationError({"until": f"must be from since to {LONGEST.days} days after it"})
        groups = _groups(asked.get("by", "day"))
        rows = self._rows(asked.get("tenant", ""), since, until, asked.get("slo_class", ""))
        found = [
            _shape(row, self._slugs) for row in records.usage_by(rows, [GROUPS[name] for name in groups])
        ]
        if asked.get("export"):
            return _file(asked["export"], found)
        return Response({"since": since, "until": until, "by": groups, "results": found})

    def _rows(self, tenant: str, since: date, until: date, slo_class: str) -> Any:
        self._slugs = dict(selectors.tenants().values_list("pk", "slug"))
        rows = records.usage(since=since, until=until, slo_class=slo_class)
        if tenant:
            return rows.filter(tenant_id=find_tenant(tenant, self.principal).pk)
        if self.principal.role == Role.TENANT_OWNER:
            own = [pk for pk, slug in self._slugs.items() if slug in self.principal.tenants]
            return rows.filter(tenant_id__in=own)
        return rows


class Attainment(ConsoleView):
    """Per tenant and class, how many requests kept the class's targets."""

    @contract(answer=AttainmentOutput, query={"minutes": "How far back; 5 by default, 1,440 at most."})
    def get(self, request: Request) -> Response:
        raw = request.query_params.get("minutes", "5")
        if not raw.isascii() or not raw.isdigit() or len(raw) > 4 or not 1 <= int(raw) <= 1440:
            raise exceptions.ValidationError({"minutes": "must be a whole number from 1 to 1440"})
        since: datetime = timezone.now() - timedelta(minutes=int(raw))
        targets = {row.name: (row.ttft_target_ms, row.tpot_target_ms) for row in selectors.slo_classes()}
        slugs = dict(selectors.tenants().values_list("pk", "slug"))
        found = [
            {
                "tenant": slugs.get(row.tenant_id) if row.tenant_id is not None else None,
                "slo_class": row.slo_class,
                "requests": row.requests,
                "ttft_met": row.ttft_met,
                "tpot_met": row.tpot_met,
            }
            for row in records.attainment(since, targets)
        ]
        if self.principal.role == Role.TENANT_OWNER:
            found = [row for row in found if row["tenant"] in self.principal.tenants]
        return Response({"since": since, "results": found})


def _day(name: str, raw: str | None, default: date) -> date:
    try:
        return default if not raw else date.fromisoformat(raw)
    except ValueError:
        raise exceptions.ValidationError({name: "must be a day as 2026-11-21"}) from None


def _groups(raw: str) -> list[str]:
    names = list(dict.fromkeys(name for name in raw.split(",") if name))
    if not names or set(names) - set(GROUPS):
        raise exceptions.ValidationError({"by": f"must be some of: {', '.join(GROUPS)}"})
    return names


def _shape(row: dict[str, Any], slugs: dict[int, str]) -> dict[str, Any]:
    shaped: dict[str, Any] = dict.fromkeys(("day", "tenant", "key", "slo_class", "model"))
    shaped |= {name: value for name, value in row.items() if name not in {"tenant_id", "key_id"}}
    if row.get("tenant_id") is not None:
        shaped["tenant"] = slugs.get(row["tenant_id"])
    shaped["key"] = row.get("key_id")
    return shaped


def _file(kind: str, rows: list[dict[str, Any]]) -> HttpResponse:
    if kind != "csv":
        raise exceptions.ValidationError({"export": "must be csv"})
    answer = HttpResponse("".join(records.usage_csv(rows)), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = 'attachment; filename="usage.csv"'
    return answer
