from __future__ import annotations

import redis

from controlplane.rebalancing.lease import Lease


def renew(lease: Lease, client: redis.Redis) -> bool:
    pipeline = client.pipeline(transaction=False)
    lease.renew_in(pipeline)
    return bool(pipeline.execute()[0])


def test_only_one_candidate_holds_the_lease(live_redis):
    first, second = (Lease(live_redis, owner=name, ttl_ms=60_000) for name in ("a", "b"))
    assert first.acquire()
    assert not second.acquire()
    assert second.holder() == "a"


def test_a_candidate_can_neither_renew_nor_release_what_another_holds(live_redis):
    first, second = (Lease(live_redis, owner=name, ttl_ms=60_000) for name in ("a", "b"))
    first.acquire()
    assert not renew(second, live_redis)
    assert not second.release()
    assert renew(first, live_redis)
    assert first.release()
    assert second.acquire()


def test_the_lease_ends_by_itself_and_renewing_prolongs_it(live_redis):
    lease = Lease(live_redis, owner="a", ttl_ms=60_000)
    lease.acquire()
    live_redis.pexpire("llumdeck:loop:lease", 5_000)
    renew(lease, live_redis)
    assert live_redis.pttl("llumdeck:loop:lease") > 5_000


def test_a_flushed_lease_is_not_renewed(live_redis):
    lease = Lease(live_redis, owner="a", ttl_ms=60_000)
    lease.acquire()
    live_redis.flushall()
    assert not renew(lease, live_redis)


def test_a_lease_that_was_taken_without_its_owner_hearing_of_it_is_its_own(live_redis):
    """Asked of a Redis that stood still: the answer came too late, the lease was taken."""
    unheard, again, other = (Lease(live_redis, owner=name, ttl_ms=60_000) for name in ("a", "a", "b"))
    unheard.acquire()
    assert again.acquire()
    assert not other.acquire()
