"""Who calls: the bearer key of a request, asked of the database and remembered for a few seconds.

:class:`KeyCache` asks a :data:`KeyLookup` in a thread and keeps every answer for at
most :data:`KEY_LIFETIME_S`, so that a revoked key stops working within that time even
where no event tells of it. Raw keys are not kept, only their digests.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ipaddress
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from controlplane.gateway import errors
from controlplane.gateway.envelope import RefusedError
from controlplane.gateway.errors import ApiError
from controlplane.gateway.heading import Heading
from controlplane.tenancy.types import KeyIdentity, KeyUse, Network
from engine_agents.vllm_engine.frontend_port import Scope

logger = logging.getLogger(__name__)

KEY_LIFETIME_S = 5.0
STALE_KEY_LIMIT_S = 60.0
"""While keys cannot be read, an answer may be this old: the tenant's service goes on."""
MAX_KEYS = 10_000
MAX_STRANGERS = 500
"""Unknown keys that may be asked for at once."""
MAX_KEY_LENGTH = 200
MAX_HOPS = 20

KeyLookup = Callable[[str, datetime], KeyIdentity | None]
"""``controlplane.tenancy.selectors.authenticate_key``; may block, may raise."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

KEY_IN_URL = ApiError(
    401,
    "api_key_in_url",
    "An API key must not stand in the address, where logs keep it: send it in the header "
    "'Authorization: Bearer KEY', and rotate this one.",
)
WRONG_NETWORK = ApiError(403, "network_not_allowed", "This API key may not be used from this address.")


@dataclass(frozen=True, slots=True)
class _Answer:
    identity: KeyIdentity | None
    at_s: float


class KeyCache:
    """Keys to identities, on the event loop."""

    def __init__(
        self,
        lookup: KeyLookup,
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
        trusted_proxies: tuple[Network, ...] = (),
    ) -> None:
        self._lookup, self._clock, self._wall = lookup, clock, wall_clock
        self._trusted = trusted_proxies
        self._answers: OrderedDict[bytes, _Answer] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[KeyIdentity | None]] = {}
        self._forgotten = 0
        self._uses: dict[int, tuple[datetime, Address | None]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keys")
        self._strangers_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="unknown-keys")
        """Apart, so that a flood of guesses does not keep known keys from being asked again."""
        self._strangers = 0

    async def authenticate(self, scope: Scope, heading: Heading) -> KeyIdentity:
        """Who the request's key speaks for.

        Raises :class:`RefusedError`: 401; 403 from a network that the key is not for;
        503 while keys cannot be read.
        """
        raw_key = bearer_key(heading, scope.get("query_string", b""))
        return self._checked(await self.identify(raw_key), scope, heading)

    def authenticate_known(self, scope: Scope, heading: Heading) -> KeyIdentity | None:
        """:meth:`authenticate` where the answer is at hand; ``None`` where it must be asked for."""
        raw_key = bearer_key(heading, scope.get("query_string", b""))
        answer = self._answers.get(_digest(raw_key))
        if answer is None or self._clock() - answer.at_s >= KEY_LIFETIME_S:
            return None
        return self._checked(answer.identity, scope, heading)

    def _checked(self, identity: KeyIdentity | None, scope: Scope, heading: Heading) -> KeyIdentity:
        now = self._wall()
        if identity is None or (identity.expires_at is not None and identity.expires_at <= now):
            raise RefusedError(errors.BAD_KEY)
        address = client_address(scope, heading.forwarded, self._trusted)
        if identity.networks and not _within(address, identity.networks):
            raise RefusedError(WRONG_NETWORK)
        self._uses[identity.key_id] = (now, address)
        return identity

    async def identify(self, raw_key: str) -> KeyIdentity | None:
        digest = _digest(raw_key)
        answer = self._answers.get(digest)
        if answer is not None and self._clock() - answer.at_s < KEY_LIFETIME_S:
            return answer.identity
        return await self._ask_once(digest, raw_key, answer)

    def forget(self, tenant_slug: str = "") -> None:
        """Ask anew for the keys of this tenant, or for all: something about them was written.

        The old answers stay for the case that the database is away.
        """
        self._forgotten += 1
        old_s = self._clock() - KEY_LIFETIME_S
        for digest, answer in self._answers.items():
            known = answer.identity
            if known is None or not tenant_slug or known.tenant_slug == tenant_slug:
                self._answers[digest] = _Answer(known, min(answer.at_s, old_s))

    def drop(self, key_id: int) -> None:
        """This key was revoked: its answer is not used again, whatever becomes of the database."""
        self._forgotten += 1
        for digest, answer in list(self._answers.items()):
            if answer.identity is not None and answer.identity.key_id == key_id:
                del self._answers[digest]

    def take_uses(self) -> list[KeyUse]:
        """The last use of each key since the last call."""
        uses, self._uses = self._uses, {}
        return [
            KeyUse(key_id, at, str(address) if address else None) for key_id, (at, address) in uses.items()
        ]

    async def _ask_once(self, digest: bytes, raw_key: str, stale: _Answer | None) -> KeyIdentity | None:
        """Many requests at once with one key cost one question."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(digest, raw_key, stale))
            self._asking[digest] = asking
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(asking)

    async def _ask(self, digest: bytes, raw_key: str, stale: _Answer | None) -> KeyIdentity | None:
        asked_s, forgotten = self._clock(), self._forgotten
        known = stale is not None and stale.identity is not None
        if not known and self._strangers >= MAX_STRANGERS:
            raise RefusedError(errors.KEYS_UNREADABLE)
        self._strangers += not known
        try:
            identity = await self._look_up(raw_key, known=known)
        except Exception as error:
            logger.warning("keys cannot be read: %s", type(error).__name__)
            if stale is not None and asked_s - stale.at_s < STALE_KEY_LIMIT_S:
                return stale.identity
            raise RefusedError(errors.KEYS_UNREADABLE) from None
        finally:
            self._strangers -= not known
        # What was written while the question was under way may not be in the answer.
        fresh_s = asked_s if forgotten == self._forgotten else asked_s - KEY_LIFETIME_S
        self._remember(digest, _Answer(identity, fresh_s))
        return identity

    async def _look_up(self, raw_key: str, *, known: bool) -> KeyIdentity | None:
        thread = self._thread if known else self._strangers_thread
        return await asyncio.get_running_loop().run_in_executor(thread, self._lookup, raw_key, self._wall())

    def _remember(self, digest: bytes, answer: _Answer) -> None:
        """The oldest question goes first when there are too many: guesses cannot drive out keys in use."""
        self._answers[digest] = answer
        self._answers.move_to_end(digest, last=answer.identity is not None)
        if len(self._answers) > MAX_KEYS:
            self._answers.popitem(last=False)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._strangers_thread.shutdown(wait=False, cancel_futures=True)


def bearer_key(heading: Heading, query: bytes = b"") -> str:
    """The key of ``Authorization: Bearer`` or ``x-api-key``. Raises :class:`RefusedError` (401)."""
    scheme, _, key = heading.authorization.partition(b" ")
    if scheme and scheme.lower() != b"bearer":
        raise RefusedError(errors.NO_KEY)
    key = key.strip() or heading.api_key.strip()
    if not key:
        raise RefusedError(KEY_IN_URL if b"ld_" in query else errors.NO_KEY)
    if len(key) > MAX_KEY_LENGTH or not key.isascii():
        raise RefusedError(errors.BAD_KEY)
    return key.decode()


def _digest(raw_key: str) -> bytes:
    return hashlib.sha256(raw_key.encode()).digest()


def client_address(scope: Scope, forwarded: Sequence[bytes], trusted: tuple[Network, ...]) -> Address | None:
    """Who called: the peer, or behind trusted proxies the last address they did not vouch for.

    ``forwarded`` is every ``X-Forwarded-For`` in order.
    """
    peer = _address((scope.get("client") or ("",))[0])
    if not forwarded or not trusted:
        return peer
    hops = [hop for value in forwarded for hop in value.split(b",")]
    for hop in reversed(hops[-MAX_HOPS:]):
        if peer is not None and not _within(peer, trusted):
            break
        before = _address(hop.decode("latin-1").strip())
        if before is None:
            break
        peer = before
    return peer


@functools.lru_cache(4096)
def _address(text: str) -> Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _within(address: Address | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in networks)
