"""Who opened a socket: session and user from the cookie of its handshake, read once.

Channels' own session middleware also looks at every frame that is sent, in case a session is to be
saved with it; frames are most of what this process does, and none of them saves a session.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from channels.auth import get_user
from channels.sessions import CookieMiddleware
from django.conf import settings

Scope = dict[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]


class SignedIn:
    """Puts ``session`` and ``user`` (maybe anonymous) into the scope and leaves sending alone."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        store = import_module(settings.SESSION_ENGINE).SessionStore
        scope = {**scope, "session": store(scope["cookies"].get(settings.SESSION_COOKIE_NAME))}
        scope["user"] = await get_user(scope)
        await self._inner(scope, receive, send)


def signed_in(inner: Application) -> Any:
    """The application behind cookies, session and user."""
    return CookieMiddleware(SignedIn(inner))
