"""Who calls, under which class, and what is refused before any work is done on it.

Pure but for :class:`KeyCache`, which asks a :data:`KeyLookup` (the database) in a
thread and keeps every answer for at most :data:`KEY_LIFETIME_S`, so that a revoked
key stops working within that time.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from controlplane.gateway import errors
from controlplane.gateway.errors import ApiError
from controlplane.tenancy.types import KeyIdentity

logger = logging.getLogger(__name__)

KEY_LIFETIME_S = 5.0
STALE_KEY_LIMIT_S = 60.0
"""While keys cannot be read, an answer may be this old: the tenant's service goes on."""
MAX_KEYS = 10_000
MAX_KEY_LENGTH = 200
MAX_BODY_BYTES = 4 * 2**20
MAX_CHOICES = 128
MAX_PROMPTS = 256

KeyLookup = Callable[[str, datetime], KeyIdentity | None]
"""``controlplane.tenancy.selectors.authenticate_key``; may block, may raise."""


class RefusedError(Exception):
    """The request is answered with ``self.error`` and goes no further."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request is served for, and as what."""

    identity: KeyIdentity
    asked_class: str
    """Empty when the client named none."""
    slo_class: str
    rank: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """What of a body concerns the gateway; the rest is vLLM's."""

    service_tier: str = ""


class _Fields(msgspec.Struct):
    service_tier: Any = None
    n: Any = None
    best_of: Any = None
    prompt: msgspec.Raw = msgspec.Raw(b"null")


_fields = msgspec.json.Decoder(_Fields)
_anything = msgspec.json.Decoder()


def read_envelope(body: bytes) -> Envelope:
    """Check a body's form and bounds. Raises :class:`RefusedError` (400); leaves fine points to vLLM."""
    try:
        body.decode()
        fields = _fields.decode(body)
    except msgspec.ValidationError:
        # JSON, but no object: vLLM says what it expected. It must be whole JSON all the same.
        return _checked(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(errors.bad_json(_json_problem(error))) from None
    for name in ("n", "best_of"):
        _check_choices(name, getattr(fields, name))
    _check_prompts(bytes(fields.prompt))
    tier = fields.service_tier
    return Envelope(service_tier=tier if isinstance(tier, str) else "")


def _checked(body: bytes) -> Envelope:
    try:
        _anything.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RefusedError(errors.bad_json(_json_problem(error))) from None
    return Envelope()


def _json_problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return str(error).removeprefix("JSON is malformed: ") or "it cannot be read"


def _check_choices(name: str, value: Any) -> None:
    if isinstance(value, int) and value > MAX_CHOICES:
        raise RefusedError(errors.out_of_range(name, f"must be at most {MAX_CHOICES}, got {value}"))


def _check_prompts(raw: bytes) -> None:
    """A list of prompts is as many requests; a list of token ids is one."""
    inner = raw[1:65].lstrip()
    if not raw.startswith(b"[") or not inner.startswith((b'"', b"[", b"{")):
        return
    count = len(_anything.decode(raw))
    if count > MAX_PROMPTS:
        raise RefusedError(
            errors.out_of_range("prompt", f"at most {MAX_PROMPTS} in one request, got {count}")
        )


def caller_for(identity: KeyIdentity, service_tier: str) -> Caller:
    """The class served: what the client asked for where its key allows that, never more than it allows.

    ``service_tier`` maps to the class that carries its name; ``auto``, unknown and empty
    tiers mean the key's own class. A tier above what is allowed is lowered to the best
    allowed class below it.
    """
    rules = identity.class_rules
    asked = next(
        (name for name, rule in rules.items() if service_tier and rule.service_tier == service_tier), ""
    )
    served = _allowed(identity, asked) if asked else identity.slo_class
    return Caller(identity, asked, served, rules[served].rank if served in rules else 1)


def _allowed(identity: KeyIdentity, asked: str) -> str:
    rules = identity.class_rules
    lower = [name for name in identity.allowed_classes if rules[name].rank >= rules[asked].rank]
    return min(lower, key=lambda name: rules[name].rank, default=identity.slo_class)


@dataclass(frozen=True, slots=True)
class _Answer:
    identity: KeyIdentity | None
    at_s: float


class KeyCache:
    """Keys to identities; raw keys are not kept, only their digests."""

    def __init__(
        self, lookup: KeyLookup, clock: Callable[[], float], wall_clock: Callable[[], datetime]
    ) -> None:
        self._lookup, self._clock, self._wall = lookup, clock, wall_clock
        self._answers: dict[bytes, _Answer] = {}
        self._asking: dict[bytes, asyncio.Future[KeyIdentity | None]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="keys")

    async def authenticate(self, headers: list[tuple[bytes, bytes]]) -> KeyIdentity:
        """Who the bearer key speaks for. Raises :class:`RefusedError` (401; 503: keys cannot be read)."""
        raw_key = _bearer_key(headers)
        identity = await self.identify(raw_key)
        if identity is None:
            raise RefusedError(errors.BAD_KEY)
        return identity

    async def identify(self, raw_key: str) -> KeyIdentity | None:
        digest = hashlib.sha256(raw_key.encode()).digest()
        answer = self._answers.get(digest)
        if answer is not None and self._clock() - answer.at_s < KEY_LIFETIME_S:
            return answer.identity
        return await self._ask_once(digest, raw_key, answer)

    async def _ask_once(self, digest: bytes, raw_key: str, stale: _Answer | None) -> KeyIdentity | None:
        """Many requests at once with one key cost one question."""
        asking = self._asking.get(digest)
        if asking is None:
            asking = asyncio.ensure_future(self._ask(digest, raw_key, stale))
            self._asking[digest] = asking
            asking.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(asking)

    async def _ask(self, digest: bytes, raw_key: str, stale: _Answer | None) -> KeyIdentity | None:
        asked_s = self._clock()
        try:
            loop = asyncio.get_running_loop()
            identity = await loop.run_in_executor(self._thread, self._lookup, raw_key, self._wall())
        except Exception as error:
            logger.warning("keys cannot be read: %s", type(error).__name__)
            if stale is not None and asked_s - stale.at_s < STALE_KEY_LIMIT_S:
                return stale.identity
            raise RefusedError(errors.KEYS_UNREADABLE) from None
        if len(self._answers) >= MAX_KEYS:
            del self._answers[next(iter(self._answers))]
        self._answers[digest] = _Answer(identity, asked_s)
        return identity

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


def _bearer_key(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.partition(b" ")
            key = key.strip()
            if scheme.lower() != b"bearer" or not key:
                raise RefusedError(errors.NO_KEY)
            if len(key) > MAX_KEY_LENGTH or not key.isascii():
                raise RefusedError(errors.BAD_KEY)
            return key.decode()
    raise RefusedError(errors.NO_KEY)
