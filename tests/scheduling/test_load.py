from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from controlplane.scheduling import load
from controlplane.scheduling.snapshot import ClassUse
from tests.scheduling.clusters import CLASSES, examples, instance, instances


def test_the_head_of_the_line_counts_the_others_do_not() -> None:
    one = instance(used_tokens=1000, running=4, waiting=1, head_of_line_tokens=640, queued_tokens=640)
    three = instance(used_tokens=1000, running=4, waiting=3, head_of_line_tokens=640, queued_tokens=6400)
    assert load.virtual_usage(one, {}) == load.virtual_usage(three, {}) == 1640


def test_nobody_waiting_means_no_demand() -> None:
    assert load.head_of_line_tokens(instance(head_of_line_tokens=640)) == 0


def test_reservations_of_incoming_migrations_are_usage() -> None:
    assert load.freeness(instance(reserved_tokens=192, running=1), {}) == 8000


def test_headroom_is_shared_by_the_class_on_the_instance() -> None:
    few = instance(running=1, classes=(ClassUse("interactive", 1, 0, 100),))
    many = instance(running=9, classes=(ClassUse("interactive", 9, 0, 100),))
    assert load.headroom_tokens(few, CLASSES) == load.headroom_tokens(many, CLASSES) == 8192 - 1600


def test_no_headroom_for_a_class_that_only_waits_or_has_no_target_or_is_unknown() -> None:
    for name, running in (("interactive", 0), ("batch", 3), ("unknown", 3)):
        each = instance(classes=(ClassUse(name, running, 1, 0),))
        assert load.headroom_tokens(each, CLASSES) == 0


def test_a_draining_instance_is_infinitely_full() -> None:
    each = instance(draining=True)
    assert load.virtual_usage(each, {}) == inf
    assert load.freeness(each, {}) == -inf


def test_freeness_is_the_decode_steps_until_memory_ends_whatever_the_block_size() -> None:
    small = instance(used_tokens=4096, running=8, block_size_tokens=16)
    large = instance(used_tokens=4096, running=8, block_size_tokens=128)
    assert load.freeness(small, {}) == load.freeness(large, {}) == 512


@examples
@given(instances(), st.sampled_from([{}, CLASSES]))
def test_freeness_is_the_paper_s_formula(each, classes) -> None:
    formula = (each.capacity_tokens - load.virtual_usage(each, classes)) / load.batch_size(each)
    assert load.freeness(each, classes) == formula


@examples
@given(st.integers(0, 10_000), st.sampled_from([1, 16, 128]))
def test_demand_is_whole_blocks(tokens: int, block: int) -> None:
    demand = load.demand_tokens(tokens, block)
    assert demand % block == 0
    assert tokens <= demand < tokens + block


@examples
@given(st.floats(-1e6, 1e6), st.integers(0, 100))
def test_a_faster_instance_never_scores_worse(room: float, requests: int) -> None:
    assert load.dispatch_freeness(room, requests, 2.0) >= load.dispatch_freeness(room, requests, 1.0)


def test_room_counts_everything_that_is_promised() -> None:
    each = instance(used_tokens=1000, reserved_tokens=200, queued_tokens=300, waiting=1)
    assert load.room_tokens(each, 92, 0.0) == 8192 - 1592
    assert load.room_tokens(each, 92, 0.5) == 4096 - 1592
