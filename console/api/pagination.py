"""Pages: a cursor that stays right while rows are added, and a limit that is checked, not bent."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from rest_framework import exceptions, pagination
from rest_framework.request import Request

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


def limit_of(request: Request) -> int:
    """``limit``: 1 to 200, 50 by default. Raises ``ValidationError``."""
    raw = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not raw.isascii() or not raw.isdigit() or len(raw) > 4 or not 1 <= int(raw) <= MAX_LIMIT:
        raise exceptions.ValidationError({"limit": f"must be a whole number from 1 to {MAX_LIMIT}"})
    return int(raw)


class CursorPages(pagination.CursorPagination):
    """``{"next", "previous", "results"}``; ``limit`` 1 to 200, 50 by default."""

    page_size = DEFAULT_LIMIT
    page_size_query_param = "limit"
    max_page_size = MAX_LIMIT

    def __init__(self, ordering: tuple[str, ...]) -> None:
        super().__init__()
        self._order = ordering

    def get_page_size(self, request: Request) -> int:
        return limit_of(request)

    def decode_cursor(self, request: Request) -> Any:
        try:
            return super().decode_cursor(request)
        except (exceptions.NotFound, ValueError, UnicodeDecodeError):
            raise exceptions.ValidationError({"cursor": "is not one that this list gave out"}) from None

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        return self._order

    def links(self) -> dict[str, str | None]:
        """Paths of the neighbours, relative to ``/api/v1/``."""
        return {"next": _relative(self.get_next_link()), "previous": _relative(self.get_previous_link())}


class ItemPages:
    """The same for a sorted list in memory: the cursor names the item after which the page begins."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._next: str | None = None

    def cut(self, items: Sequence[Mapping[str, Any]], request: Request) -> list[Mapping[str, Any]]:
        limit, after = limit_of(request), self._after(request)
        start = 0
        if after:
            places = [index for index, item in enumerate(items) if str(item[self._key]) == after]
            start = places[0] + 1 if places else 0
        page = list(items[start : start + limit])
        if start + limit < len(items):
            self._next = self._link(request, str(page[-1][self._key]))
        return page

    def links(self) -> dict[str, str | None]:
        return {"next": self._next, "previous": None}

    def _after(self, request: Request) -> str:
        given = request.query_params.get("cursor", "")
        try:
            return base64.b64decode(given.encode("ascii"), validate=True).decode()
        except (ValueError, binascii.Error):
            raise exceptions.ValidationError({"cursor": "is not one that this list gave out"}) from None

    def _link(self, request: Request, key: str) -> str:
        query = {**request.query_params.dict(), "cursor": base64.b64encode(key.encode()).decode()}
        return f"{request.path.partition('/api/v1/')[2]}?{urlencode(query)}"


def _relative(link: str | None) -> str | None:
    return None if link is None else link.partition("/api/v1/")[2]
