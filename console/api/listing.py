"""Lists: what every one of them understands (filters, ``ordering``, ``q``, ``fields``, pages, export)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import django_filters
from django.core import exceptions as django_errors
from django.db.models import Q, QuerySet
from django.http import HttpResponse
from rest_framework import exceptions, serializers
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from console.api.pagination import CursorPages, ItemPages

MAX_WORDS = 5
MAX_EXPORTED = 20_000
COMMON = ("limit", "cursor", "ordering", "q", "fields", "export")
EXPORTS = ("csv", "json")


@dataclass(frozen=True)
class Listing:
    """What one list offers. ``ordering`` maps public names to columns that are never null."""

    output: type[serializers.BaseSerializer[Any]]
    ordering: Mapping[str, str]
    default: str
    filters: type[django_filters.FilterSet] | None = None
    search: Sequence[str] = ()
    described: Mapping[str, str] = field(default_factory=dict)
    """Further query parameters that the view reads itself, with their meaning."""

    @property
    def parameters(self) -> frozenset[str]:
        own = self.filters.base_filters if self.filters else {}
        return frozenset({*COMMON, *own, *self.described})

    @property
    def field_names(self) -> list[str]:
        return list(getattr(self.output(), "fields", {}))


def list_rows(
    listing: Listing, rows: QuerySet[Any, Any], view: APIView, context: Mapping[str, Any] | None = None
) -> Response | HttpResponse:
    """One page of rows, or all that match as a file. Raises ``ValidationError`` naming the parameter."""
    request: Request = view.request
    check_parameters(request, listing.parameters)
    rows = searched(filtered(rows, listing, request), listing, request)
    order, wanted, file = _order(listing, request), _fields(listing, request), _export(request)
    if file:
        found = list(rows.order_by(order, *_tie(order))[:MAX_EXPORTED])
        return _file(file, _shape(listing, found, wanted, context), view)
    pages = CursorPages((order, *_tie(order)))
    try:
        page = pages.paginate_queryset(rows, request, view=view) or []
    except (ValueError, TypeError, OverflowError, django_errors.ValidationError):
        raise exceptions.ValidationError({"cursor": "is not one that this list gave out"}) from None
    return Response({**pages.links(), "results": _shape(listing, page, wanted, context)})


def list_items(
    listing: Listing, items: Sequence[Mapping[str, Any]], view: APIView
) -> Response | HttpResponse:
    """The same for plain data that is in memory anyway (live requests)."""
    request: Request = view.request
    check_parameters(request, listing.parameters)
    words = _words(request)
    kept = [item for item in items if _has(item, words, listing.search)]
    order, wanted, file = _order(listing, request), _fields(listing, request), _export(request)
    name = order.lstrip("-")
    kept.sort(key=lambda item: (_sortable(item[name]), str(item[listing.ordering["id"]])),
              reverse=order.startswith("-"))  # fmt: skip
    if file:
        return _file(file, _shape(listing, kept[:MAX_EXPORTED], wanted, None), view)
    pages = ItemPages(listing.ordering["id"])
    page = pages.cut(kept, request)
    return Response({**pages.links(), "results": _shape(listing, page, wanted, None)})


def check_parameters(request: Request, known: frozenset[str]) -> None:
    """Refuses parameters that are not known, so that a misspelt filter does not show everything."""
    if unknown := sorted(set(request.query_params) - known):
        names = ", ".join(sorted(known))
        raise exceptions.ValidationError(
            dict.fromkeys(unknown, f"is not a parameter here; known are: {names}")
        )


def filtered(rows: QuerySet[Any, Any], listing: Listing, request: Request) -> QuerySet[Any, Any]:
    if listing.filters is None:
        return rows
    filters = listing.filters(data=request.query_params, queryset=rows, request=request)
    if not filters.is_valid():
        raise exceptions.ValidationError({name: list(errors) for name, errors in filters.errors.items()})
    narrowed: QuerySet[Any, Any] = filters.qs
    return narrowed


def searched(rows: QuerySet[Any, Any], listing: Listing, request: Request) -> QuerySet[Any, Any]:
    for word in _words(request):
        match = Q()
        for column in listing.search:
            match |= Q(**{f"{column}__icontains": word})
        rows = rows.filter(match)
    return rows


def _words(request: Request) -> list[str]:
    return request.query_params.get("q", "")[:200].split()[:MAX_WORDS]


def _has(item: Mapping[str, Any], words: Sequence[str], columns: Sequence[str]) -> bool:
    text = " ".join(str(item.get(column, "")) for column in columns).lower()
    return all(word.lower() in text for word in words)


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if value is not None else 0)


def _order(listing: Listing, request: Request) -> str:
    given = request.query_params.get("ordering", "") or listing.default
    name = given.removeprefix("-")
    if name not in listing.ordering:
        known = ", ".join(listing.ordering)
        raise exceptions.ValidationError(
            {"ordering": f"must be one of: {known} (with - before it: backwards)"}
        )
    return given.replace(name, listing.ordering[name], 1)


def _tie(order: str) -> tuple[str, ...]:
    """Rows that are alike in the order are told apart, in the same direction."""
    if order.lstrip("-") in {"id", "pk"}:
        return ()
    return ("-id",) if order.startswith("-") else ("id",)


def _fields(listing: Listing, request: Request) -> list[str]:
    wanted = [name for name in request.query_params.get("fields", "").split(",") if name]
    if unknown := [name for name in wanted if name not in listing.field_names]:
        known = ", ".join(listing.field_names)
        raise exceptions.ValidationError(
            {"fields": f"there is no {', '.join(unknown)[:100]}; there are: {known}"}
        )
    return wanted


def _export(request: Request) -> str:
    file = request.query_params.get("export", "")
    if file and file not in EXPORTS:
        raise exceptions.ValidationError({"export": f"must be one of: {', '.join(EXPORTS)}"})
    return file


def _shape(
    listing: Listing, found: Sequence[Any], wanted: Sequence[str], context: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    serializer: Any = listing.output
    shaped = list(serializer(found, many=True, context=dict(context or {})).data)
    return [{name: row[name] for name in wanted} for row in shaped] if wanted else shaped


def _file(kind: str, rows: Sequence[Mapping[str, Any]], view: APIView) -> HttpResponse:
    name = getattr(view.request.resolver_match, "url_name", None) or "export"
    if kind == "json":
        answer = HttpResponse(
            JSONRenderer().render({"next": None, "previous": None, "results": list(rows)}),
            content_type="application/json",
        )
    else:
        answer = HttpResponse(_csv(rows), content_type="text/csv; charset=utf-8")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.{kind}"'
    return answer


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    if rows:
        writer.writerow(rows[0].keys())
        writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Nested data as JSON; text that a spreadsheet would take for a formula is quoted."""
    if isinstance(value, dict | list):
        value = json.dumps(value, default=str)
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return "'" + value
    return value
