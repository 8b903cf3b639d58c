"""Charts: how pools and classes fared, at the resolution that the span allows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework import exceptions, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.listing import check_parameters
from console.api.outputs import Shape, number, time, whole
from console.api.schema import contract
from console.api.spans import span
from console.api.views.console_view import ConsoleView
from console.api.views.pools import find_pool
from controlplane.records import history
from controlplane.tenancy.selectors import slo_classes

QUERY = {
    "since": "RFC 3339; 15 minutes ago by default.",
    "until": "RFC 3339; now by default.",
    "points": "At most so many, 300 by default, 2,000 at most.",
}


class PoolPoint(Shape):
    at = time()
    resolution_s = whole()
    instances = number()
    running = number()
    waiting = number()
    queued = number()
    used_share = number(allow_null=True)
    freeness_tokens = number(allow_null=True)
    tokens_per_s = number()
    preemptions = whole()
    migrations_done = whole()
    migrations_failed = whole()


class ClassPoint(Shape):
    at = time()
    resolution_s = whole()
    requests = whole()
    failed = whole()
    prompt_tokens = whole()
    output_tokens = whole()
    ttft_p50_ms = number(allow_null=True)
    ttft_p99_ms = number(allow_null=True)
    tpot_p50_ms = number(allow_null=True)
    tpot_p99_ms = number(allow_null=True)
    end_to_end_p99_ms = number(allow_null=True)


class PoolPoints(Shape):
    since = time()
    until = time()
    results = PoolPoint(many=True)


class ClassPoints(Shape):
    since = time()
    until = time()
    results = ClassPoint(many=True)


class PoolHistoryView(ConsoleView):
    """A pool's instances, load and memory over time; gaps are gaps."""

    @contract(answer=PoolPoints, query=QUERY)
    def get(self, request: Request, name: str) -> Response:
        pool = find_pool(name).name
        return _answer(request, PoolPoint, lambda **span: history.pool_history(pool=pool, **span))


class ClassHistoryView(ConsoleView):
    """A class's requests and latencies over time; gaps are gaps."""

    @contract(answer=ClassPoints, query=QUERY)
    def get(self, request: Request, name: str) -> Response:
        row = get_object_or_404(slo_classes(), name=name)
        return _answer(
            request, ClassPoint, lambda **span: history.latency_history(slo_class=row.name, **span)
        )


def _answer(
    request: Request, point: type[serializers.Serializer[Any]], read: Callable[..., list[dict[str, Any]]]
) -> Response:
    check_parameters(request, frozenset(QUERY))
    since, until = span(request, default=timedelta(minutes=15))
    raw = request.query_params.get("points", "300")
    if not raw.isascii() or not raw.isdigit() or len(raw) > 4 or not 1 <= int(raw) <= 2000:
        raise exceptions.ValidationError({"points": "must be a whole number from 1 to 2000"})
    found = read(since=since, until=until, points=int(raw))
    return Response({"since": since, "until": until, "results": point(found, many=True).data})
