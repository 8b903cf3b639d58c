"""A span of time in a query: ``since`` and ``until``."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from rest_framework import exceptions
from rest_framework.request import Request

LONGEST = timedelta(days=400)


def span(request: Request, *, default: timedelta) -> tuple[datetime, datetime]:
    """From ``since`` (``default`` before the end) to ``until`` (now). Raises ``ValidationError``."""
    until = _moment(request, "until", timezone.now())
    since = _moment(request, "since", until - default)
    if not timedelta(0) < until - since <= LONGEST:
        raise exceptions.ValidationError({"since": f"must be before until, at most {LONGEST.days} days"})
    return since, until


def _moment(request: Request, name: str, default: datetime) -> datetime:
    raw = request.query_params.get(name)
    if not raw:
        return default
    try:
        found = parse_datetime(raw)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None or not 1971 <= found.year <= 9000:
        raise exceptions.ValidationError({name: "must be an RFC 3339 time, as 2026-11-21T03:00:00Z"})
    return found
