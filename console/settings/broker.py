"""Celery's broker is the same Redis, said in Celery's words."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, urlsplit

CERTIFICATES = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def broker_url(redis_url: str) -> str:
    """``unix://`` is ``redis+socket://`` there; what concerns TLS is said by :func:`broker_tls`."""
    if redis_url.startswith("unix://"):
        return redis_url.replace("unix://", "redis+socket://", 1)
    return redis_url.partition("?")[0] if redis_url.startswith("rediss://") else redis_url


def broker_tls(redis_url: str) -> dict[str, Any] | None:
    """Whom to trust, from the URL's own words; certificates are checked unless it says otherwise."""
    parts = urlsplit(redis_url)
    if parts.scheme != "rediss":
        return None
    said = dict(parse_qsl(parts.query))
    wanted = said.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    files = {name: said[name] for name in FILES if name in said}
    return {"ssl_cert_reqs": CERTIFICATES.get(wanted, ssl.CERT_REQUIRED), **files}


def broker_transport_options(prefix: str) -> dict[str, Any]:
    return {
        "global_keyprefix": f"{prefix}celery:",
        "visibility_timeout": 600,
        "socket_timeout": 5,
        "socket_connect_timeout": 5,
    }
