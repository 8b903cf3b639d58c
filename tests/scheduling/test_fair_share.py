"""Fair among tenants by tokens and weights, the plain queue's order with one tenant, nobody starved."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.scheduling.fair_share import FairQueue, aged_rank, cost
from controlplane.scheduling.queueing import FleetQueue
from controlplane.scheduling.snapshot import RequestProfile


class Shop:
    """One server that takes one request at a time from a fair queue."""

    def __init__(self) -> None:
        self.queue = FairQueue()
        self.number = 0
        self.served: dict[str, float] = {}
        self.order: list[str] = []

    def arrive(
        self, tenant: str, tokens: int = 100, *, rank: int = 1, weight: float = 1.0, at_s: float = 0.0
    ) -> str:
        self.number += 1
        name = f"{tenant}-{self.number}"
        profile = RequestProfile(name, "standard", tokens, at_s)
        self.queue.add(profile, rank, at_s + 0.001 * self.number, tenant, weight)
        return name

    def serve(self, output_tokens: int = 0) -> str:
        entry = next(iter(self.queue))
        name = entry.request.request_id
        tenant = name.rpartition("-")[0]
        self.queue.bound(name)
        self.queue.remove(name)
        self.queue.ended(name, entry.request.prompt_tokens, output_tokens)
        spent = cost(entry.request.prompt_tokens, output_tokens)
        self.served[tenant] = self.served.get(tenant, 0.0) + spent
        self.order.append(name)
        return tenant


ARRIVALS = st.lists(
    st.tuples(st.integers(0, 2), st.floats(0.0, 50.0), st.integers(1, 4000)), min_size=1, max_size=40
)


@given(ARRIVALS)
def test_with_one_tenant_the_order_is_that_of_the_plain_queue(arrivals) -> None:
    plain, fair = FleetQueue(), FairQueue()
    for number, (rank, key_s, tokens) in enumerate(arrivals):
        profile = RequestProfile(f"r{number}", "standard", tokens, key_s)
        plain.add(profile, rank, key_s)
        fair.add(profile, rank, key_s, "only")
    assert [each.request.request_id for each in fair] == [each.request.request_id for each in plain]
    assert (len(fair), fair.tokens()) == (len(plain), plain.tokens())


@given(ARRIVALS, st.lists(st.sampled_from("abc"), min_size=40, max_size=40))
def test_a_lower_rank_never_goes_before_a_higher_one_and_nobody_is_left_out(arrivals, tenants) -> None:
    queue = FairQueue()
    for number, (rank, key_s, tokens) in enumerate(arrivals):
        queue.add(RequestProfile(f"r{number}", "standard", tokens, key_s), rank, key_s, tenants[number])
    walked = list(queue)
    assert [each.rank for each in walked] == sorted(each.rank for each in walked)
    assert {each.request.request_id for each in walked} == {f"r{number}" for number in range(len(arrivals))}


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 3.0]))
def test_tenants_that_always_wait_get_tokens_by_their_weights(seed: int, weight: float) -> None:
    """However many and however long the requests of each are (Sheng et al., on backlogged clients)."""
    draw = random.Random(seed)
    shop = Shop()
    sizes = {"a": (10, 50), "b": (400, 1500)}
    weights = {"a": 1.0, "b": weight}
    for tenant in sizes:
        for _ in range(2):
            shop.arrive(tenant, draw.randint(*sizes[tenant]), weight=weights[tenant])
    for _ in range(3000):
        tenant = shop.serve(draw.randint(1, 300))
        shop.arrive(tenant, draw.randint(*sizes[tenant]), weight=weights[tenant])
    per_weight = [shop.served[tenant] / weights[tenant] for tenant in sizes]
    # They are never further apart than a few of the largest requests.
    assert abs(per_weight[0] - per_weight[1]) <= 4 * cost(1500, 300) / min(weights.values())


def test_a_tenant_with_one_request_does_not_stand_behind_a_heavy_ones_backlog() -> None:
    shop = Shop()
    for _ in range(500):
        shop.arrive("heavy")
    for _ in range(10):
        shop.serve()
    shop.arrive("light")
    assert "light" in [shop.serve() for _ in range(2)]


def test_idle_time_is_not_saved_up() -> None:
    shop = Shop()
    for _ in range(100):
        shop.arrive("busy")
    for _ in range(90):
        shop.serve()
    for _ in range(50):
        shop.arrive("back")
    for _ in range(50):
        shop.arrive("busy")
    first = [shop.serve() for _ in range(20)]
    assert 8 <= first.count("back") <= 12


def test_what_was_served_while_nobody_else_waited_is_not_held_against_a_tenant() -> None:
    shop = Shop()
    for _ in range(1000):
        shop.arrive("alone")
        shop.serve()
    for _ in range(20):
        shop.arrive("new")
        shop.arrive("alone")
    first = [shop.serve() for _ in range(10)]
    assert 4 <= first.count("alone") <= 6


def test_a_request_that_comes_back_is_charged_once() -> None:
    queue = FairQueue()
    profile = RequestProfile("r", "standard", 100, 0.0)
    for _ in range(5):
        queue.add(profile, 1, 0.0, "a")
        queue.bound("r")
        queue.remove("r")
    queue.ended("r", 100, 50)
    queue.ended("r", 100, 50)
    assert queue.burden(1, "a") == pytest.approx(cost(100, 50))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1), st.integers(1, 500)), max_size=30))
def test_who_is_bound_at_once_is_charged_as_if_it_had_waited_for_a_moment(arrivals) -> None:
    through, past = FairQueue(), FairQueue()
    for queue in (through, past):
        queue.add(RequestProfile("waits", "standard", 300, 0.0), 1, 0.0, "b", 2.0)
    for number, (tenant, rank, tokens) in enumerate(arrivals):
        name = f"r{number}"
        profile = RequestProfile(name, "standard", tokens, 0.0)
        entry = through.add(profile, rank, 0.0, tenant, 2.0)
        through.bound(name)
        through.remove(name)
        past.bound_at_once(entry, tenant, 2.0)
        if number % 3 == 0:
            through.ended(name, tokens, 7)
            past.ended(name, tokens, 7)
    for tenant in "abc":
        for rank in (0, 1):
            assert past.burden(rank, tenant) == pytest.approx(through.burden(rank, tenant))
    assert len(past) == 1


def test_a_light_tenant_is_not_starved_by_what_a_heavy_one_turned_out_not_to_use() -> None:
    """Eight at a time run; the heavy tenant's requests were expected to be longer than they are."""
    queue, running, order = FairQueue(), [], []
    for number in range(200):
        queue.add(RequestProfile(f"heavy-{number}", "c", 5, 0.0), 1, number * 0.01, "heavy")
    for step in range(120):
        if step % 8 == 4:
            queue.add(RequestProfile(f"light-{step}", "c", 5, step), 1, float(step), "light")
        while len(running) < 8:
            name = next(iter(queue)).request.request_id
            queue.bound(name)
            queue.remove(name)
            running.append(name)
            order.append((step, name))
        queue.ended(running.pop(0), 5, 12)
    waits = [step - int(name.partition("-")[2]) for step, name in order if name.startswith("light")]
    assert len(waits) >= 14 and max(waits) <= 3


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 500)), min_size=1, max_size=30))
def test_a_counter_never_sinks(requests) -> None:
    queue, before = FairQueue(), 0.0
    for number, (prompt, output) in enumerate(requests):
        queue.add(RequestProfile(f"r{number}", "c", prompt, 0.0), 1, float(number), "a")
        queue.bound(f"r{number}")
        queue.remove(f"r{number}")
        for now in (queue.burden(1, "a"), queue.ended(f"r{number}", prompt, output) or queue.burden(1, "a")):
            assert now >= before
            before = now


# ---------------------------------------------------------------- shedding


def test_the_lowest_class_gives_way_first_and_in_it_the_heaviest_tenants_last_request() -> None:
    shop = Shop()
    shop.arrive("a", rank=0)
    light = shop.arrive("light", rank=2)
    heavy = [shop.arrive("heavy", rank=2) for _ in range(5)]
    victim = shop.queue.victim(0, "b")
    assert victim is not None and victim.request.request_id == heavy[-1]
    for name in reversed(heavy):
        shop.queue.remove(name)
    victim = shop.queue.victim(0, "b")
    assert victim is not None and victim.request.request_id == light


def test_nobody_gives_way_to_who_deserves_no_more() -> None:
    shop = Shop()
    for _ in range(5):
        shop.arrive("heavy", rank=1)
    shop.arrive("light", rank=1)
    assert shop.queue.victim(2, "light") is None
    assert shop.queue.victim(1, "heavy") is None
    assert shop.queue.victim(1, "light") is not None
    assert FairQueue().victim(1, "a") is None


@given(ARRIVALS, st.integers(0, 2))
def test_a_victim_is_never_of_a_higher_class_than_the_newcomer(arrivals, rank: int) -> None:
    queue = FairQueue()
    for number, (own, key_s, tokens) in enumerate(arrivals):
        queue.add(RequestProfile(f"r{number}", "standard", tokens, key_s), own, key_s, f"t{number % 3}")
    victim = queue.victim(rank, "new")
    assert victim is None or victim.rank >= rank
    assert victim is None or victim.rank == max(each.rank for each in queue)


# ---------------------------------------------------------------- aging


@pytest.mark.parametrize(
    ("rank", "waited_s", "seen"), [(2, 0, 2), (2, 49, 2), (2, 50, 1), (2, 75, 0), (1, 50, 0), (0, 99, 0)]
)
def test_patience_running_out_moves_a_request_up(rank: int, waited_s: float, seen: int) -> None:
    assert aged_rank(rank, waited_s, 100.0) == seen


def test_who_has_waited_long_is_no_longer_behind_every_higher_class() -> None:
    queue = FairQueue()
    queue.add(RequestProfile("old", "batch", 10, 0.0), 2, 0.0, "a", patience_s=100.0)
    for number in range(5):
        queue.add(RequestProfile(f"new{number}", "interactive", 10, 80.0), 0, 80.0, "b", patience_s=10.0)
    assert [each.request.request_id for each in queue][-1] == "old"
    assert queue.age(80.0) == 1
    assert queue.age(80.0) == 0
    names = [each.request.request_id for each in queue]
    assert names.index("old") <= 1
    entry = queue.get("old")
    assert entry is not None and entry.rank == 2  # headroom still treats it as what it is
    assert queue.remove("old") and len(queue) == 5


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["add", "serve", "drop", "age"]), st.integers(0, 8)), max_size=120))
def test_no_order_of_events_loses_or_doubles_a_request(events) -> None:
    queue, waiting, number = FairQueue(), set(), 0
    for step, (what, pick) in enumerate(events):
        if what == "add":
            number += 1
            profile = RequestProfile(f"r{number}", "c", 10 + pick, float(step))
            queue.add(profile, pick % 3, float(step), f"t{pick % 4}", 1.0 + pick, patience_s=20.0)
            waiting.add(f"r{number}")
        elif what == "age":
            queue.age(float(step))
        elif waiting:
            name = sorted(waiting)[pick % len(waiting)]
            if what == "serve":
                queue.bound(name)
            assert queue.remove(name)
            queue.ended(name, 5, pick)
            waiting.discard(name)
        walked = [each.request.request_id for each in queue]
        assert len(walked) == len(waiting) == len(queue) and set(walked) == waiting
