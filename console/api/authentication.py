"""Who calls: a machine's bearer token, else the browser's session."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from console.accounts.principals import MachineUser, Principal, principal_of_person
from console.accounts.selectors import principal_of_token, valid_token
from console.accounts.services import note_use

REALM = 'Bearer realm="console"'


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session with CSRF on every write; unlike DRF's, a missing session is a 401."""

    def authenticate_header(self, request: Request) -> str:
        return REALM


class TokenAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer ldm_…``; a bad token is refused even where a session would do."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        kind, _, raw_token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
        now = timezone.now()
        row = valid_token(raw_token.strip(), now=now)
        if row is None:
            raise exceptions.AuthenticationFailed("This token is unknown, expired or revoked.")
        note_use(row, now=now)
        return MachineUser(row.name), principal_of_token(row)

    def authenticate_header(self, request: Request) -> str:
        return REALM


def principal_of(request: Request) -> Principal | None:
    """The caller; ``None`` for nobody. Looked up once per request."""
    if not request.user or not request.user.is_authenticated:
        return None
    if isinstance(request.auth, Principal):
        return request.auth
    plain: Any = request._request
    if not hasattr(plain, "llumdeck_principal"):
        plain.llumdeck_principal = principal_of_person(request.user)
    found: Principal = plain.llumdeck_principal
    return found
