"""Signatures of webhook calls, so that a receiver knows who calls and that nothing was replayed.

The header ``Llumdeck-Signature: t=<unix seconds>,v1=<hex>`` holds the HMAC-SHA256 of
``<t>.<body>`` under the webhook's secret. The secret is derived from the server's key and
the webhook's salt: it is nowhere at rest, and a new salt is a new secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from django.conf import settings

HEADER = "Llumdeck-Signature"
PREFIX = "whsec_"


def secret_of(salt: str) -> str:
    """What the receiver must know; shown when the webhook is made or its secret rotated."""
    derived = hmac.new(settings.SECRET_KEY.encode(), f"webhook:{salt}".encode(), hashlib.sha256).digest()
    return PREFIX + base64.urlsafe_b64encode(derived).decode().rstrip("=")


def signature(secret: str, body: bytes, at_s: int) -> str:
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def is_genuine(secret: str, body: bytes, header: str, *, now_s: float, tolerance_s: float = 300) -> bool:
    """What a receiver does; also kept here as the definition."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    if not parts.get("t", "").isdigit() or abs(now_s - int(parts["t"])) > tolerance_s:
        return False
    return hmac.compare_digest(signature(secret, body, int(parts["t"])), header)
