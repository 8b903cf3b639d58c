"""What is written about tenants reaches this gateway: keys are asked anew, running requests follow.

Events make it quick; what they miss is found by reading, within seconds: answers about
keys grow old (``keys.py``), and tenants whose running requests are to follow are read
with the policy. The other way, the uses of keys and wishes beyond rights are told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane import redis_client
from controlplane.events.publish import CHANNEL
from controlplane.events.schema import EventError, TenancyChanged, TenantClassChanged, decode
from controlplane.gateway.abuse import AbuseLog, Excess
from controlplane.gateway.admission import caller_for
from controlplane.gateway.commands import LiveWork
from controlplane.gateway.keys import KeyCache
from controlplane.gateway.live_requests import LiveRequest
from controlplane.tenancy.types import KeyIdentity, KeyUse

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 5.0
RETRY_S = 1.0
CONCERNED = (b'"tenancy"', b'"tenant_class"')
"""One of these is in every event that matters here; all others are not even decoded."""

Hear = Callable[[TenancyChanged | TenantClassChanged], None]


@dataclass(frozen=True, slots=True)
class TenancyPorts:
    """The database and Redis, or what stands for them. All but ``follow`` may block, all may raise."""

    rights_of_key: Callable[[int, datetime], KeyIdentity | None]
    """``controlplane.tenancy.selectors.identity_of_key``"""
    note_uses: Callable[[Sequence[KeyUse]], object]
    write_excess: Callable[[Sequence[Excess]], object]
    follow: Callable[[Hear], Coroutine[Any, Any, None]]
    """Hears events until cancelled."""


class TenancyWatch:
    """On the event loop."""

    def __init__(
        self,
        keys: KeyCache,
        abuse: AbuseLog,
        work: LiveWork,
        ports: TenancyPorts,
        wall_clock: Callable[[], datetime],
    ) -> None:
        self._keys, self._abuse, self._work = keys, abuse, work
        self._ports, self._wall = ports, wall_clock
        self._done: dict[int, datetime] = {}
        """Per tenant, the moment up to which its requests were brought to their class."""
        self.reread = asyncio.Event()
        """Set when the policy should be read before its time."""

    def hear(self, event: TenancyChanged | TenantClassChanged) -> None:
        """Something was written."""
        if isinstance(event, TenantClassChanged):
            self._keys.forget(event.tenant)
            if event.apply_to_running:
                self.reread.set()
        elif event.action == "key.revoke":
            self._keys.drop(int(event.name))
        elif event.kind != "person":
            self._keys.forget(event.tenant)

    async def follow_rights(self, reclassified: Mapping[int, datetime]) -> None:
        """Bring to their present class what ran or waited when that was asked."""
        for tenant_id, moment in reclassified.items():
            if self._done.get(tenant_id) != moment and await self._follow_tenant(tenant_id, moment):
                self._done[tenant_id] = moment

    async def tell(self) -> None:
        """Until cancelled: uses of keys, and wishes beyond rights, to the database."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self.tell_now()

    async def tell_now(self) -> None:
        uses, excess = self._keys.take_uses(), self._abuse.take()
        try:
            if uses:
                await asyncio.to_thread(self._ports.note_uses, uses)
            if excess:
                await asyncio.to_thread(self._ports.write_excess, excess)
        except Exception as error:
            self._abuse.put_back(excess)
            logger.warning("uses of keys were not noted: %s", type(error).__name__)

    async def _follow_tenant(self, tenant_id: int, moment: datetime) -> bool:
        lives = self._work.matching(
            lambda live: live.call.caller.identity.tenant_id == tenant_id and live.call.arrived_at < moment
        )
        changed = 0
        for key_id in {live.call.caller.identity.key_id for live in lives}:
            try:
                rights = await asyncio.to_thread(self._ports.rights_of_key, key_id, self._wall())
            except Exception as error:
                logger.warning("rights of a key cannot be read: %s", type(error).__name__)
                return False
            # A closed or expired key's requests go on as they were let in.
            if rights is not None:
                changed += self._bring(lives, key_id, rights)
        if changed:
            logger.info("%d requests of tenant %d are served under another class now", changed, tenant_id)
        return True

    def _bring(self, lives: Sequence[LiveRequest], key_id: int, rights: KeyIdentity) -> int:
        changed = 0
        for live in lives:
            caller = live.call.caller
            if caller.identity.key_id != key_id:
                continue
            now = caller_for(rights, caller.service_tier, caller.priority)
            if now.slo_class != caller.slo_class and self._work.knows_class(now.slo_class):
                self._work.serve_as(live, now.slo_class)
                changed += 1
        return changed


class EventFeed:
    """Hears the control plane's events until cancelled; a Redis that is away is asked again."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear

    async def run(self) -> None:
        while True:
            try:
                await self._follow()
            except (redis_client.RedisError, OSError, TimeoutError):
                await asyncio.sleep(RETRY_S)

    async def _follow(self) -> None:
        async with redis_client.connect_async() as client, client.pubsub() as channel:
            await channel.subscribe(redis_client.key(CHANNEL))
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is not None and any(word in message["data"] for word in CONCERNED):
                    self._take(message["data"])

    def _take(self, data: bytes) -> None:
        try:
            event = decode(data)
        except EventError as error:
            logger.warning("an event could not be read: %s", error)
            return
        if isinstance(event, TenancyChanged | TenantClassChanged):
            self._hear(event)
