"""Liveness and readiness, for load balancers and people."""

from __future__ import annotations

from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse

from controlplane import redis_client


def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers; nothing else is looked at."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """503 with the reasons while the database or Redis does not answer."""
    checks = {"database": database_problem(), "redis": redis_client.problem()}
    ready = not any(checks.values())
    body = {name: problem or "ok" for name, problem in checks.items()}
    return JsonResponse({"status": "ready" if ready else "not ready", **body}, status=200 if ready else 503)


def database_problem() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return f"does not answer: {type(error).__name__}"
    return ""
