"""Pages: a cursor that stays right while rows are added, and a limit that is checked, not bent."""

from __future__ import annotations

from typing import Any

from django.db.models import Model, QuerySet
from rest_framework import exceptions, pagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


class CursorPages(pagination.CursorPagination):
    """``{"next", "previous", "results"}``; ``limit`` 1 to 200, 50 by default."""

    page_size = DEFAULT_LIMIT
    page_size_query_param = "limit"
    max_page_size = MAX_LIMIT

    def __init__(self, ordering: str) -> None:
        super().__init__()
        self._order = ordering

    def get_page_size(self, request: Request) -> int:
        raw = request.query_params.get("limit", str(DEFAULT_LIMIT))
        if not raw.isascii() or not raw.isdigit() or not 1 <= int(raw) <= MAX_LIMIT:
            raise exceptions.ValidationError({"limit": f"must be a whole number from 1 to {MAX_LIMIT}"})
        return int(raw)

    def decode_cursor(self, request: Request) -> Any:
        try:
            return super().decode_cursor(request)
        except exceptions.NotFound:
            raise exceptions.ValidationError({"cursor": "is not one that this list gave out"}) from None

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        return (self._order,)


def page(
    rows: QuerySet[Any, Any], serializer: Any, *, view: APIView, ordering: str, context: Any = None
) -> Response:
    """One page of rows, with the paths of its neighbours (relative to ``/api/v1/``)."""
    pages = CursorPages(ordering)
    found: list[Model] = pages.paginate_queryset(rows, view.request, view=view) or []
    body = serializer(found, many=True, context=context or {}).data
    links = {
        name: _relative(link)
        for name, link in (("next", pages.get_next_link()), ("previous", pages.get_previous_link()))
    }
    return Response({**links, "results": body})


def _relative(link: str | None) -> str | None:
    return None if link is None else link.partition("/api/v1/")[2]
