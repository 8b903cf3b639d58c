from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.scheduling import queueing
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Hole, Migrate
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import rank_of
from controlplane.scheduling.queueing import FleetQueue, next_dispatches, open_holes, queue_key, rehome_key
from controlplane.scheduling.snapshot import ClassUse
from tests.scheduling.clusters import CLASSES, cluster, instance, request

CONFIG = SchedulingConfig.for_policy("llumdeck")


def queue_of(*requests, beta: float = 0.02) -> FleetQueue:
    queue = FleetQueue()
    config = SchedulingConfig.for_policy("llumdeck", queue={"beta_s_per_token": beta})
    for each in requests:
        queue.add(each, rank_of(each.slo_class, CLASSES), queue_key(each, config))
    return queue


def bound(queue: FleetQueue, snapshot, config=CONFIG, ledger=None, **options) -> list[tuple[str, str]]:
    found = next_dispatches(queue, snapshot, ledger or Ledger(), config, **options)
    return [(each.request_id, each.instance_id) for each in found]


def test_order_is_class_then_arrival_plus_beta_times_prompt() -> None:
    queue = queue_of(
        request("long", 1000, at_s=0.0),
        request("short", 10, at_s=5.0),
        request("late", 10, at_s=30.0),
        request("urgent", 5000, at_s=40.0, slo_class="interactive"),
        request("unknown", 1, at_s=0.0, slo_class="undeclared"),
    )
    assert [entry.request.request_id for entry in queue] == ["urgent", "short", "long", "late", "unknown"]


def test_beta_zero_is_first_come_first_served() -> None:
    queue = queue_of(request("long", 1000, at_s=0.0), request("short", 10, at_s=0.1), beta=0.0)
    assert [entry.request.request_id for entry in queue] == ["long", "short"]


def test_length_puts_nobody_off_for_longer_than_its_limit() -> None:
    limit = CONFIG.queue.beta_limit_s
    assert queue_key(request(tokens=100_000, at_s=3.0), CONFIG) == 3.0 + limit
    patient = queue_of(request("huge", 100_000, at_s=0.0), request("short", 1, at_s=limit + 1.0))
    assert [entry.request.request_id for entry in patient] == ["huge", "short"]


def test_while_preempted_requests_wait_nobody_starts_where_memory_would_end_at_once() -> None:
    tight = instance("a", used_tokens=7500, running=40)
    fresh, ousted = request("fresh", 100), request("ousted", 5000, generated_tokens=900)
    assert bound(queue_of(fresh), cluster(tight)) == [("fresh", "a")]
    queue = queue_of(fresh, ousted)
    assert queue.preempted() == 1
    assert bound(queue, cluster(tight)) == []
    assert bound(queue, cluster(tight), request_id="fresh") == []
    queue.remove("ousted")
    assert bound(queue, cluster(tight)) == [("fresh", "a")]


def test_an_empty_instance_takes_anyone_whatever_the_reserve() -> None:
    huge = request("huge", 7900, generated_tokens=100)
    assert bound(queue_of(huge), cluster(instance("a"))) == [("huge", "a")]


def test_the_queue_forgets_what_is_removed() -> None:
    queue = queue_of(request("a", 10), request("b", 20))
    assert queue.tokens() == 30
    assert queue.remove("a")
    assert not queue.remove("a")
    assert "a" not in queue
    assert queue.get("b") is not None
    assert (len(queue), queue.tokens()) == (1, 20)
    with pytest.raises(ValueError, match="already waits"):
        queue.add(request("b"), 0, 0.0)


def test_the_longest_waiting_is_the_first_arrival_not_the_first_in_order() -> None:
    queue = queue_of(request("long", 5000, at_s=0.0), request("short", 1, at_s=9.0))
    assert queue.longest_waiting().request_id == "long"
    assert FleetQueue().longest_waiting() is None


def test_a_preempted_request_returns_ahead_of_new_ones_later_the_more_it_must_recompute() -> None:
    now = 100.0
    light, heavy = request(tokens=10, generated_tokens=10), request(tokens=10, generated_tokens=400)
    fresh = queue_key(request(tokens=20, at_s=now), CONFIG)
    assert rehome_key(light, now, CONFIG) < fresh
    assert rehome_key(light, now, CONFIG) < rehome_key(heavy, now, CONFIG)


def test_binds_where_fewest_run_then_where_most_room_is_left() -> None:
    calm = instance("c", used_tokens=6000, running=1)
    assert bound(queue_of(request("r")), cluster(instance("a", running=9), calm)) == [("r", "c")]
    roomier = instance("d", used_tokens=2000, running=1)
    assert bound(queue_of(request("r")), cluster(calm, roomier)) == [("r", "d")]
    assert bound(queue_of(request("r")), cluster(roomier, calm)) == [("r", "d")]


def test_room_comes_first_until_there_is_enough() -> None:
    tight = instance("a", used_tokens=7888, running=1)
    busy = instance("b", used_tokens=4000, running=20)
    assert bound(queue_of(request("r", 200)), cluster(tight, busy)) == [("r", "b")]
    assert bound(queue_of(request("r", 200)), cluster(tight, busy), request_id="r") == [("r", "b")]
    easy = SchedulingConfig.for_policy("llumdeck", queue={"enough_tokens": 0.0})
    assert bound(queue_of(request("r", 200)), cluster(tight, busy), easy) == [("r", "a")]


def test_a_class_with_a_target_load_is_kept_together_within_it() -> None:
    hosting = instance("a", used_tokens=640, running=2, classes=(ClassUse("interactive", 2, 0, 640),))
    urgent = queue_of(request("urgent", 800, slo_class="interactive"))
    assert bound(urgent, cluster(hosting, instance("b"))) == [("urgent", "a")]
    assert bound(urgent, cluster(hosting, instance("b")), request_id="urgent") == [("urgent", "a")]
    beyond = queue_of(request("urgent", 1000, slo_class="interactive"))
    assert bound(beyond, cluster(hosting, instance("b"))) == [("urgent", "b")]
    roomy = instance("c", used_tokens=1000, running=1)
    packed = instance("b", used_tokens=3000, running=1)
    assert bound(beyond, cluster(packed, roomy)) == [("urgent", "c")]


def test_a_target_of_the_whole_capacity_changes_nothing() -> None:
    hosting = instance("a", used_tokens=640, running=2, classes=(ClassUse("interactive", 2, 0, 640),))
    calm = instance("b", used_tokens=3000, running=1)
    urgent = queue_of(request("urgent", 800, slo_class="interactive"))
    assert bound(urgent, cluster(hosting, calm)) == [("urgent", "a")]
    for target in (hosting.capacity_tokens, None):
        rule = replace(CLASSES["interactive"], target_load_tokens=target)
        plain = replace(cluster(hosting, calm), classes={**CLASSES, "interactive": rule})
        assert bound(urgent, plain) == [("urgent", "b")]
        assert bound(urgent, plain, request_id="urgent") == [("urgent", "b")]


def test_equal_instances_are_told_apart_by_id() -> None:
    for order in ("ab", "ba"):
        members = [instance(name) for name in order]
        assert bound(queue_of(request("r")), cluster(*members)) == [("r", "a")]
        assert bound(queue_of(request("r")), cluster(*members), request_id="r") == [("r", "a")]


def test_what_the_walk_gives_away_counts_in_the_same_walk() -> None:
    queue = queue_of(*(request(f"r{n}", 5000, at_s=n) for n in range(3)))
    assert bound(queue, cluster(instance("a"), instance("b"))) == [("r0", "a"), ("r1", "b")]


def test_a_blocked_head_is_passed_over_but_not_without_limit() -> None:
    queue = queue_of(request("big", 8000), request("small", 100, at_s=500.0))
    full = cluster(instance("a", used_tokens=4000, running=3))
    assert bound(queue, full) == [("small", "a")]
    strict = SchedulingConfig.for_policy("llumdeck", queue={"max_skips": 0})
    assert bound(queue, full, strict) == []


def test_room_is_free_less_watermark_queue_and_ledger() -> None:
    queue, ledger = queue_of(request("r", 4000)), Ledger()
    assert bound(queue, cluster(instance("a", queued_tokens=4200, waiting=1))) == []
    ledger.sent("a", 1, 4200)
    assert bound(queue, cluster(instance("a")), ledger=ledger) == []
    blind = SchedulingConfig.for_policy("llumdeck", dispatch={"in_flight_accounting": False})
    assert bound(queue, cluster(instance("a")), blind, ledger=ledger) == [("r", "a")]
    assert bound(queue_of(request("r", 8192)), cluster(instance("a"))) == [], "the watermark stays free"


def test_prompts_not_yet_prefilled_are_limited_but_one_may_always_start() -> None:
    limit = CONFIG.dispatch.unprefilled_limit_tokens
    big = queue_of(request("big", limit + 1))
    assert bound(big, cluster(instance("a"))) == [("big", "a")]
    assert bound(big, cluster(instance("a", unprefilled_tokens=1))) == []
    endless = SchedulingConfig.for_policy("llumdeck", dispatch={"unprefilled_limit_tokens": 0})
    assert bound(big, cluster(instance("a", unprefilled_tokens=1)), endless) == [("big", "a")]


def test_a_hole_is_for_one_request_only() -> None:
    queue = queue_of(request("other", 10), request("waiter", 10, at_s=1.0))
    snapshot = cluster(instance("a"))
    assert bound(queue, snapshot, holes={"a": "waiter"}) == [("waiter", "a")]


def test_an_instance_hosting_a_higher_class_is_filled_only_to_its_target() -> None:
    hosting = instance("a", used_tokens=1536, running=1, classes=(ClassUse("interactive", 1, 0, 1536),))
    assert bound(queue_of(request("fits", 80)), cluster(hosting)) == []
    light = instance("a", used_tokens=1000, running=1, classes=(ClassUse("interactive", 1, 0, 1000),))
    assert bound(queue_of(request("fits", 80)), cluster(light)) == [("fits", "a")]
    urgent = queue_of(request("urgent", 4000, slo_class="interactive"))
    assert bound(urgent, cluster(hosting)) == [("urgent", "a")]
    gone = instance("a", used_tokens=1536, running=1, classes=(ClassUse("interactive", 0, 0, 0),))
    assert bound(queue_of(request("fits", 80)), cluster(gone)) == [("fits", "a")]


def test_a_walk_can_be_limited_to_one_instance_or_one_request() -> None:
    queue = queue_of(request("x"), request("y"))
    first, second = instance("a"), instance("b")
    assert bound(queue, cluster(first, second), request_id="y") == [("y", "a")]
    assert bound(queue, cluster(first, second), request_id="nobody") == []
    assert bound(queue, cluster(first, second), instances=(second,)) == [("x", "b"), ("y", "b")]
    assert bound(queue, cluster(), instances=()) == []


def test_faster_instances_count_their_room_for_more() -> None:
    snapshot = cluster(instance("a", running=1), instance("b", running=1, relative_speed=1.5))
    assert bound(queue_of(request("r")), snapshot) == [("r", "b")]


# ---------------------------------------------------------------------------------- holes


def waiting(tokens: int = 4000, at_s: float = 50.0):
    return request("w", tokens, at_s=at_s)


FULL = {"used_tokens": 7000, "running": 5}


def test_the_smallest_deficit_gets_the_hole_and_is_made_room_on() -> None:
    snapshot = cluster(
        instance("a", used_tokens=6000, running=5),
        instance("b", used_tokens=5000, running=5),
        instance("c", used_tokens=5200, running=5),
        waiters=(waiting(),),
    )
    decisions, holes = open_holes(snapshot, {}, CONFIG, Ledger())
    assert holes == {"b": "w"}
    hole, move = decisions
    assert isinstance(hole, Hole) and (hole.instance_id, hole.tokens) == ("b", 4000)
    assert isinstance(move, Migrate) and (move.source_id, move.destination_id, move.order) == (
        "b",
        "c",
        "cover",
    )
    assert 0 < move.need_tokens <= 4000 - (8192 - 5000) + 82
    again, kept = open_holes(snapshot, holes, CONFIG, Ledger())
    assert kept == holes
    assert [type(each) for each in again] == [Migrate], "a hole is declared once"


def test_nobody_gets_a_hole_before_time_or_when_holes_are_off() -> None:
    snapshot = cluster(instance("a", **FULL), instance("b"), waiters=(waiting(at_s=99.0),))
    assert open_holes(snapshot, {}, CONFIG, Ledger()) == ((), {})
    never = SchedulingConfig.for_policy("llumdeck", queue={"hole_after_s": 0.0})
    old = cluster(instance("a", **FULL), instance("b"), waiters=(waiting(),))
    assert open_holes(old, {"a": "w"}, never, Ledger()) == ((), {})


def test_no_hole_whose_cost_the_others_cannot_carry() -> None:
    snapshot = cluster(instance("a", **FULL), instance("b", **FULL), waiters=(waiting(8000),))
    assert open_holes(snapshot, {}, CONFIG, Ledger()) == ((), {})


def test_no_move_when_it_fits_or_no_slot_is_free_or_nobody_can_take() -> None:
    fits = cluster(instance("a"), waiters=(waiting(),))
    assert [type(each) for each in open_holes(fits, {}, CONFIG, Ledger())[0]] == [Hole]
    busy = cluster(
        instance("a", used_tokens=5000, running=5, migrations_out=1),
        instance("b", used_tokens=6000, running=5),
        waiters=(waiting(),),
    )
    assert [type(each) for each in open_holes(busy, {}, CONFIG, Ledger())[0]] == [Hole]
    taken = cluster(
        instance("a", used_tokens=5000, running=5),
        instance("b", used_tokens=6000, running=5, migrations_in=1),
        waiters=(waiting(),),
    )
    assert [type(each) for each in open_holes(taken, {}, CONFIG, Ledger())[0]] == [Hole]


def test_a_hole_moves_on_when_its_instance_drains() -> None:
    snapshot = cluster(
        instance("a", used_tokens=4500, running=5, draining=True), instance("b"), waiters=(waiting(),)
    )
    decisions, holes = open_holes(snapshot, {"a": "w"}, CONFIG, Ledger())
    assert holes == {"b": "w"}
    assert isinstance(decisions[0], Hole)


# ------------------------------------------------------------------- joining and returning


def test_only_what_no_instance_can_ever_take_is_refused_at_the_door() -> None:
    large = request("r", 9000)
    refused = queueing.admit(cluster(instance("a")), large, CONFIG)
    assert refused is not None and "9000" in refused.reason
    assert queueing.admit(cluster(instance("a", draining=True)), large, CONFIG) is None
    assert queueing.admit(cluster(instance("a", used_tokens=8000)), request("r", 500), CONFIG) is None
    assert queueing.admit(cluster(), large, CONFIG) is None, "instances may still come"


def test_preempted_requests_return_only_while_the_fleet_has_memory() -> None:
    config = SchedulingConfig.for_policy("llumdeck", queue={"rehome_below_share": 0.9})
    half, full = instance("a", used_tokens=4096), instance("b", used_tokens=8192)
    assert queueing.rehomes(cluster(half, full), config)
    assert not queueing.rehomes(cluster(full), config)
    assert not queueing.rehomes(cluster(half, full, queue_tokens=4000), config)
    never = SchedulingConfig.for_policy("llumdeck", queue={"rehome": False})
    assert not queueing.rehomes(cluster(half), never)
