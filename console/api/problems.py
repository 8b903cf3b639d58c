"""Errors as RFC 9457 problem documents: what failed, which field, and the request's id."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from django.core import exceptions as django_errors
from django.db import DatabaseError
from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import exception_handler as drf_handler

from console.api.request_id import request_id_of
from controlplane.redis_client import RedisError

CONTENT_TYPE = "application/problem+json"
OWN_PACKAGES = ("controlplane.", "console.")

logger = logging.getLogger(__name__)

TITLES = {
    400: "The request is not valid.",
    401: "Sign in first.",
    403: "You may not do this.",
    404: "There is no such thing.",
    405: "This method is not offered here.",
    409: "This cannot be done now.",
    406: "This is not offered in that form.",
    412: "It was changed meanwhile.",
    413: "The request is too large.",
    415: "Send JSON.",
    422: "This key was used for another request.",
    428: "Say which state you have seen.",
    429: "Too many attempts.",
    503: "A part that this needs does not answer.",
}


class Conflict(exceptions.APIException):
    """What is asked contradicts the present state; the detail says why and what would be right."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class Unavailable(exceptions.APIException):
    """Redis or the database is away."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"


def handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: every error of an endpoint leaves as a problem document."""
    error = _known(error)
    response = drf_handler(error, context)
    if response is None:
        return None
    request = context.get("request")
    code = response.status_code
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": TITLES.get(code, "The request failed."),
        "status": code,
        "detail": _detail(error),
        "request_id": request_id_of(request) if request is not None else "",
    }
    if isinstance(error, exceptions.ValidationError):
        problem["errors"] = list(_field_errors(error.detail))
        problem["detail"] = " ".join(f"{item['field']}: {item['message']}" for item in problem["errors"])
    response.data = problem
    response.content_type = CONTENT_TYPE
    return response


def _known(error: Exception) -> Exception:
    """Errors of the layers below, as those of this one."""
    if isinstance(error, RedisError):
        return Unavailable("Redis does not answer. Requests are still served; try again in a moment.")
    if isinstance(error, DatabaseError):
        logger.error("the database failed a request", exc_info=error)
        return Unavailable("The database does not answer. Requests are still served; try again in a moment.")
    if isinstance(error, django_errors.ValidationError):
        detail = error.message_dict if hasattr(error, "error_dict") else error.messages
        return exceptions.ValidationError(detail)
    if isinstance(error, Http404):
        return exceptions.NotFound("Nothing has this name or number.")
    if isinstance(error, ValueError) and type(error).__module__.startswith(OWN_PACKAGES):
        return _refused(error)
    return error


def _refused(error: ValueError) -> Exception:
    """What a service says no to: 400 where it names a field of the input, else 409."""
    field = getattr(error, "field", "")
    status_code = getattr(error, "status_code", 0)
    if status_code == status.HTTP_429_TOO_MANY_REQUESTS:
        return exceptions.Throttled(detail=str(error))
    if not field:
        return Conflict(str(error))
    # Such sentences stand alone elsewhere and begin with the field, which a problem names already.
    return exceptions.ValidationError({field: str(error).removeprefix(f"{field}: ")})


def _detail(error: Exception) -> str:
    detail = getattr(error, "detail", "")
    return str(detail) if not isinstance(detail, dict | list) else ""


def _field_errors(detail: Any, path: str = "") -> Iterator[dict[str, str]]:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from _field_errors(inner, f"{path}.{own}".strip("."))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _field_errors(inner, path)
    else:
        yield {"field": path, "message": str(detail)}


@csrf_exempt
def not_found(request: HttpRequest, *args: object, **kwargs: object) -> JsonResponse:
    """For paths under /api/v1 that no endpoint has."""
    return JsonResponse(
        {
            "type": "about:blank",
            "title": TITLES[404],
            "status": 404,
            "detail": f"No endpoint has the path {request.path}.",
            "request_id": request_id_of(request),
        },
        status=404,
        content_type=CONTENT_TYPE,
    )
