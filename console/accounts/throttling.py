"""Guessing passwords is slowed down: django-axes counts, here it is asked."""

from __future__ import annotations

from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_cool_off
from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest


def locked_for_s(request: HttpRequest, username: str) -> int:
    """How long this name is locked for this address; 0: it is not."""
    if AxesProxyHandler.is_allowed(request, {"username": username}):
        return 0
    cool_off = get_cool_off(request)
    return int(cool_off.total_seconds()) if cool_off is not None else 3600


def note_failure(request: HttpRequest, username: str) -> None:
    """A wrong second factor counts as a wrong password does."""
    user_login_failed.send(sender=__name__, credentials={"username": username}, request=request)
