"""``ETag`` and ``If-Match``: nobody overwrites what they have not seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import models, transaction
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

Row = TypeVar("Row", bound=models.Model)


class PreconditionFailed(exceptions.APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_code = "precondition_failed"


class PreconditionRequired(exceptions.APIException):
    status_code = status.HTTP_428_PRECONDITION_REQUIRED
    default_code = "precondition_required"


def etag_of(state: Any) -> str:
    """Of what can be edited: the same text for the same state, whatever is live beside it."""
    rendered = JSONRenderer().render(state)
    canonical = json.dumps(json.loads(rendered), sort_keys=True).encode()
    return f'"{hashlib.sha256(canonical).hexdigest()[:24]}"'


def with_etag(response: Response, state: Any) -> Response:
    response.headers["ETag"] = etag_of(state)
    return response


def check_match(request: Request, state: Any) -> None:
    """Raises 428 without ``If-Match``, 412 where it names another state."""
    given = request.headers.get("If-Match")
    if given is None:
        raise PreconditionRequired(
            "Send If-Match with the ETag of what you read (or * to overwrite anything)."
        )
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    if "*" not in tags and etag_of(state) not in tags:
        raise PreconditionFailed("It was changed since you read it. Read it again, then decide.")


@contextmanager
def unchanged(
    request: Request, rows: models.QuerySet[Row], state: Callable[[Row], Any], **lookup: Any
) -> Iterator[Row]:
    """The row, locked until the end of the block, in the state the caller has seen. Raises ``Http404``."""
    with transaction.atomic():
        row = rows.select_for_update(of=("self",)).filter(**lookup).first()
        if row is None:
            raise Http404
        check_match(request, state(row))
        yield row
