"""One id per request, in the answer's header and in every problem document."""

from __future__ import annotations

import re
import secrets
from typing import Any

from rest_framework.request import Request

HEADER = "X-Request-ID"
_ACCEPTED = re.compile(r"^[A-Za-z0-9._-]{8,64}$")


def request_id_of(request: Any) -> str:
    """The caller's ``X-Request-ID`` if it is a plain word, else one made here; the same for one request."""
    plain: Any = request._request if isinstance(request, Request) else request
    if not hasattr(plain, "llumdeck_request_id"):
        given = plain.headers.get(HEADER, "")
        plain.llumdeck_request_id = given if _ACCEPTED.match(given) else secrets.token_hex(8)
    return str(plain.llumdeck_request_id)
