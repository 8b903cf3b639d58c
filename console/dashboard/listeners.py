"""Who may go on listening: one look at the database for all browsers of a process.

A signed-out session, a closed account or a lost role ends the stream within ``RECHECK_S``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import DatabaseError, close_old_connections
from django.utils import timezone

from console.roles import LOOK
from controlplane.tenancy.selectors import roles_of

logger = logging.getLogger(__name__)

NOT_SIGNED_IN = 4401
NO_ROLE = 4403
RECHECK_S = 15.0
CLOSE_WITHIN_S = 5.0


class Credentials(NamedTuple):
    """By what a browser was let in."""

    session_key: str | None
    user_id: int


class Listener(Protocol):
    """One browser's connection."""

    @property
    def credentials(self) -> Credentials: ...

    async def close(self, code: int) -> None: ...


class Listeners:
    """The browsers of one event loop; looks after them while there are any."""

    def __init__(self) -> None:
        self._listening: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, listener: Listener) -> None:
        self._listening.add(listener)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._recheck(), name="live-listeners")

    def remove(self, listener: Listener) -> None:
        self._listening.discard(listener)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _recheck(self) -> None:
        while self._listening:
            await asyncio.sleep(RECHECK_S)
            try:
                codes = await sync_to_async(refusals)({each.credentials for each in self._listening})
            except DatabaseError:
                # Those who are in stay in: the page is needed most while the database is away.
                logger.warning("the database is away: nobody's right to listen could be looked at")
                continue
            await self._show_out(codes)

    async def _show_out(self, codes: dict[Credentials, int]) -> None:
        """End their streams; one that does not read its end keeps nobody waiting."""
        leaving = [each for each in self._listening if each.credentials in codes]
        self._listening.difference_update(leaving)
        closing = [asyncio.create_task(each.close(code=codes[each.credentials])) for each in leaving]
        if closing:
            await asyncio.wait(closing, timeout=CLOSE_WITHIN_S)


def refusals(asked: Iterable[Credentials]) -> dict[Credentials, int]:
    """Those who may not listen any more, with the code to close with. Three queries for all."""
    close_old_connections()
    asked = set(asked)
    users = get_user_model().objects.filter(pk__in={each.user_id for each in asked}, is_active=True)
    roles = roles_of(users)
    keys = {each.session_key for each in asked if each.session_key}
    alive = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    sessions = set(alive.values_list("session_key", flat=True))
    codes = {}
    for each in asked:
        if each.session_key not in sessions or each.user_id not in roles:
            codes[each] = NOT_SIGNED_IN
        elif roles[each.user_id] not in LOOK:
            codes[each] = NO_ROLE
    return codes
