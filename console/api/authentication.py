"""Who calls: the browser's session. Machines will bring scoped tokens."""

from __future__ import annotations

from rest_framework import authentication
from rest_framework.request import Request


class SessionAuthentication(authentication.SessionAuthentication):
    """Django's session with CSRF on every write; unlike DRF's, a missing session is a 401."""

    def authenticate_header(self, request: Request) -> str:
        return 'Session realm="console"'
