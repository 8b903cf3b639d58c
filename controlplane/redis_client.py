"""The way to Redis: one URL, one key prefix, time-outs on every call."""

from __future__ import annotations

import functools
from typing import Any

import redis
import redis.asyncio
from django.conf import settings

RedisError = redis.RedisError


def connect(*, timeout_s: float | None = None) -> redis.Redis:
    """A client of bytes (no decoding); raises ``RedisError`` on use, never hangs beyond the time-out."""
    return redis.Redis.from_url(settings.REDIS_URL, **_options(timeout_s))


def shared(*, timeout_s: float) -> redis.Redis:
    """One pooled client per process for frequent small calls; safe between threads and after a fork."""
    return _shared(settings.REDIS_URL, timeout_s)


@functools.cache
def _shared(url: str, timeout_s: float) -> redis.Redis:
    return redis.Redis.from_url(url, **_options(timeout_s))


def connect_async(*, timeout_s: float | None = None) -> redis.asyncio.Redis:
    """The same for an event loop."""
    return redis.asyncio.Redis.from_url(settings.REDIS_URL, **_options(timeout_s))


def key(name: str) -> str:
    """``status`` -> ``llumdeck:status``: the prefix lets several fleets share one server."""
    return f"{settings.REDIS_PREFIX}{name}"


def problem() -> str:
    """Why Redis cannot be used now, in a few words and without secrets; empty when it answers."""
    try:
        with connect(timeout_s=1.0) as client:
            client.ping()
    except (RedisError, OSError, ValueError) as error:
        return _in_words(error)
    return ""


def _in_words(error: Exception) -> str:
    said = str(error).lower()
    if isinstance(error, ValueError) and not isinstance(error, RedisError):
        return "REDIS_URL is no Redis URL: use redis://, rediss:// or unix://"
    if "certificate" in said:
        return "its certificate cannot be verified: name the authority with ?ssl_ca_certs=FILE"
    if "authentication required" in said or "noauth" in said:
        return "wants a password: redis://:PASSWORD@HOST"
    if isinstance(error, redis.AuthenticationError) or "wrongpass" in said:
        return "refuses the password of REDIS_URL"
    if "refused" in said or "no such file" in said or isinstance(error, FileNotFoundError):
        return "does not answer: nobody listens there"
    return f"does not answer: {type(error).__name__}"


def _options(timeout_s: float | None) -> dict[str, Any]:
    limit_s = settings.REDIS_TIMEOUT_S if timeout_s is None else timeout_s
    return {"socket_timeout": limit_s, "socket_connect_timeout": limit_s, "health_check_interval": 30}
