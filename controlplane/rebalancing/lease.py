"""Who leads: a key in Redis with a time to live, held by value.

The lease says who may decide *now*; it is not what makes a late command
harmless. That is the epoch (:class:`.models.LoopState`), which agents check.
"""

from __future__ import annotations

from typing import Any, cast

from controlplane import redis_client

LEASE_KEY = "loop:lease"

_IF_OURS = "if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end "
RENEW = _IF_OURS + "return redis.call('pexpire', KEYS[1], ARGV[2])"
ACQUIRE = (
    "local held = redis.call('get', KEYS[1]) if held and held ~= ARGV[1] then return 0 end "
    "redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2]) return 1"
)
RELEASE = _IF_OURS + "return redis.call('del', KEYS[1])"


class Lease:
    """The lease as one candidate sees it; ``owner`` must be unique to the candidate."""

    def __init__(self, client: Any, *, owner: str, ttl_ms: int) -> None:
        self._client = client
        self._key = redis_client.key(LEASE_KEY)
        self.owner = owner
        self.ttl_ms = ttl_ms

    def acquire(self) -> bool:
        """Take the lease if nobody else holds it. Raises ``RedisError``.

        It may be ours without our knowing: what was asked of a Redis that stood still, and given up, is
        done when it goes on.
        """
        return bool(self._client.eval(ACQUIRE, 1, self._key, self.owner, self.ttl_ms))

    def renew_in(self, pipeline: Any) -> None:
        """Queue the renewal in a pipeline; its answer is 1 while the lease is still ours, else 0."""
        pipeline.eval(RENEW, 1, self._key, self.owner, self.ttl_ms)

    def release(self) -> bool:
        """Give it up if it is still ours. Raises ``RedisError``."""
        return bool(self._client.eval(RELEASE, 1, self._key, self.owner))

    def holder(self) -> str:
        """Who leads; empty if nobody does. Raises ``RedisError``."""
        value = cast(bytes | None, self._client.get(self._key))
        return value.decode() if value else ""


def lease_holder() -> str:
    """Who leads, for those who do not want to; empty if nobody does. Raises ``RedisError``."""
    return Lease(redis_client.shared(timeout_s=1.0), owner="", ttl_ms=0).holder()
