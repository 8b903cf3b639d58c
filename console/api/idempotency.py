"""``Idempotency-Key``: the same action sent twice within a day is done once and answered twice."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from console.accounts.principals import Principal
from console.api.models import StoredAnswer
from console.api.problems import CONTENT_TYPE, Conflict

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=5)
"""A call that has not ended by then died with its process; its key may be used again."""
_FORM = re.compile(r"[\x21-\x7e]{1,120}")


class Replayed(Exception):  # noqa: N818 - an answer, not an error
    """This call was answered before; here is the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__("answered before")
        self.response = response


class KeyReused(exceptions.APIException):
    """The key belongs to another request."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"


def claim(request: Request, caller: Principal | None) -> StoredAnswer | None:
    """The row to keep the answer in; ``None`` where no key was sent.

    Raises :class:`Replayed` where there is an answer already, ``Conflict`` while the first
    call is being worked on, :class:`KeyReused` if that was another request.
    """
    key = request.headers.get(HEADER)
    if key is None or caller is None or request.method in {"GET", "HEAD", "OPTIONS"}:
        return None
    if not _FORM.fullmatch(key):
        raise exceptions.ValidationError({HEADER: "must be 1 to 120 printable characters without spaces"})
    target = f"{request.method} {request.path}"[:300]
    fingerprint = hashlib.sha256(target.encode() + b"\n" + _body(request)).hexdigest()
    now = timezone.now()
    own = StoredAnswer.objects.filter(caller=caller.name, key=key)
    own.filter(made_at__lt=now - KEPT).delete()
    own.filter(status=None, made_at__lt=now - ABANDONED_AFTER).delete()
    try:
        with transaction.atomic():
            return StoredAnswer.objects.create(
                caller=caller.name, key=key, target=target, fingerprint=fingerprint, made_at=now
            )
    except IntegrityError:
        raise _replay(own.get(), fingerprint) from None


def keep(claimed: StoredAnswer, response: Response, *, secret_fields: frozenset[str]) -> None:
    """Store the answer; one of ours that failed (5xx) is forgotten, so that a retry is done afresh."""
    if response.status_code >= 500:
        claimed.delete()
        return
    claimed.status = response.status_code
    plain = None if response.data is None else json.loads(JSONRenderer().render(response.data))
    claimed.body = _without(plain, secret_fields)
    claimed.save(update_fields=["status", "body"])


def forget_old_answers() -> int:
    """Retention; returns how many were forgotten."""
    deleted, _ = StoredAnswer.objects.filter(made_at__lt=timezone.now() - KEPT).delete()
    return deleted


def _replay(known: StoredAnswer, fingerprint: str) -> Exception:
    if known.fingerprint != fingerprint:
        return KeyReused(f"This {HEADER} was used for another request ({known.target}); use a new one.")
    if known.status is None:
        return Conflict(f"The first request with this {HEADER} is still being worked on; ask again soon.")
    kind = CONTENT_TYPE if known.status >= 400 else None
    return Replayed(Response(known.body, status=known.status, headers={REPLAYED: "true"}, content_type=kind))


def _body(request: Request) -> bytes:
    return repr(request.data).encode("utf-8", "backslashreplace")


def _without(data: Any, secret_fields: frozenset[str]) -> Any:
    """A secret is shown once: a replayed answer has ``null`` in its place."""
    if isinstance(data, dict):
        return {name: None if name in secret_fields else _without(value, secret_fields)
                for name, value in data.items()}  # fmt: skip
    return [_without(value, secret_fields) for value in data] if isinstance(data, list) else data
