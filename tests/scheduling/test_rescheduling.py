from __future__ import annotations

from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Migrate
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.rescheduling import destination_reason, effective_threshold, pair
from controlplane.scheduling.snapshot import ClassUse
from tests.scheduling.clusters import CLASSES, cluster, instance

CONFIG = SchedulingConfig()
FULL = {"used_tokens": 8100, "running": 10}


def moves(*instances, config: SchedulingConfig = CONFIG, before=frozenset(), **options) -> list[Migrate]:
    return list(pair(cluster(*instances), before, config, **options)[0])


def ends(*instances, **options) -> list[tuple[str, str]]:
    return [(move.source_id, move.destination_id) for move in moves(*instances, **options)]


def test_the_worst_source_meets_the_best_destination_the_next_the_next() -> None:
    members = (
        instance("s1", used_tokens=8000, running=10),
        instance("s2", used_tokens=8150, running=10),
        instance("d1", used_tokens=4000, running=4),
        instance("d2", used_tokens=1000, running=4),
    )
    assert ends(*members) == ends(*reversed(members)) == [("s2", "d2"), ("s1", "d1")]


def test_enough_freeness_everywhere_means_nothing_to_do() -> None:
    assert moves(instance("a", used_tokens=4000, running=10), instance("b")) == []
    assert moves(instance("a", **FULL)) == [], "nobody to take it"


def test_an_instance_that_had_to_preempt_is_a_source_and_never_a_destination() -> None:
    first, second = moves(
        instance("a", used_tokens=4000, running=4, preempted=1, waiting=1, head_of_line_tokens=16),
        instance("b", **FULL),
        instance("c"),
        instance("d", preempted=1, waiting=1),
        instance("e"),
    )
    assert {first.source_id, second.source_id} == {"a", "b"}
    assert {move.rule for move in (first, second)} == {"load", "preempted"}
    assert "d" not in {first.destination_id, second.destination_id}


def test_a_draining_instance_comes_first_and_may_use_more_slots() -> None:
    draining = instance("z", used_tokens=500, running=3, draining=True, migrations_out=2)
    (first, second) = moves(draining, instance("a", **FULL), instance("b"), instance("c"))
    assert (first.source_id, first.rule, first.max_requests) == ("z", "drain", 4)
    assert (second.source_id, second.rule, second.max_requests) == ("a", "load", 1)
    empty = instance("z", draining=True)
    assert moves(empty, instance("b")) == [], "nothing runs there"


def test_the_head_of_the_line_makes_a_source() -> None:
    blocked = instance("a", used_tokens=6000, running=5, waiting=1, head_of_line_tokens=2300)
    assert ends(blocked, instance("b")) == [("a", "b")]


def test_headroom_makes_a_source_only_with_priorities() -> None:
    hosting = instance("a", used_tokens=1700, running=5, classes=(ClassUse("interactive", 1, 0, 500),))
    assert ends(hosting, instance("b")) == [("a", "b")]
    assert ends(hosting, instance("b"), classes={}) == []
    assert ends(hosting, instance("b"), classes=CLASSES) == [("a", "b")]


def test_headroom_drives_others_off_but_never_whom_it_is_for() -> None:
    high, normal = ClassUse("interactive", 2, 0, 900), ClassUse("standard", 3, 0, 800)
    (move,) = moves(instance("a", used_tokens=1700, running=5, classes=(high, normal)), instance("b"))
    assert (move.rule, move.spare_rank_below) == ("headroom", CLASSES["interactive"].rank + 1)
    assert not moves(instance("a", used_tokens=900, running=2, classes=(high,)), instance("b"))


def test_where_memory_itself_is_short_anyone_may_leave() -> None:
    high = ClassUse("interactive", 10, 0, 7900)
    (move,) = moves(instance("a", used_tokens=7900, running=10, classes=(high,)), instance("b"))
    assert (move.rule, move.spare_rank_below) == ("load", None)


def test_the_threshold_is_never_below_one_block_per_request() -> None:
    assert effective_threshold(48.0, instance(block_size_tokens=16)) == 48
    assert effective_threshold(48.0, instance(block_size_tokens=128)) == 128
    tiny = {"capacity_tokens": 8192, "used_tokens": 7168, "running": 9}
    assert ends(instance("a", block_size_tokens=128, **tiny), instance("b", block_size_tokens=128))
    assert not ends(instance("a", block_size_tokens=16, **tiny), instance("b"))


def test_the_free_share_is_a_threshold_of_its_own() -> None:
    config = SchedulingConfig.for_policy("llumnix", rescheduling={"source_free_share": 0.25})
    nearly = instance("a", used_tokens=7000, running=2)
    assert not ends(nearly, instance("b"))
    assert ends(nearly, instance("b"), config=config) == [("a", "b")]
    assert not ends(instance("a", used_tokens=1000, running=2), instance("b"), config=config)


def test_hysteresis_keeps_a_source_until_it_is_well_off() -> None:
    config = SchedulingConfig.for_policy("llumnix", rescheduling={"hysteresis_share": 1.0})
    between = instance("a", used_tokens=7472, running=10)
    assert not ends(between, instance("b"), config=config)
    assert ends(between, instance("b"), config=config, before=frozenset({"a"})) == [("a", "b")]
    well_off = instance("a", used_tokens=7000, running=10)
    assert not ends(well_off, instance("b"), config=config, before=frozenset({"a"}))


def test_the_state_names_the_sources() -> None:
    decisions, sources = pair(cluster(instance("a", **FULL), instance("b")), frozenset(), CONFIG)
    assert sources == {"a"}
    assert len(decisions) == 1


def test_why_an_instance_takes_nothing() -> None:
    ledger = Ledger()
    ledger.sent("coming", 1, 16)
    reasons = {
        "draining": instance(draining=True),
        "stale": instance(age_s=60.0),
        "preempted": instance(preempted=1),
        "not_free_enough": instance(**FULL),
        "has_work_coming": instance("coming"),
        "no_migration_slot": instance(migrations_in=1),
        "": instance("b"),
    }
    for reason, each in reasons.items():
        assert (
            destination_reason(each, 0.0 if reason == "not_free_enough" else 8192.0, ledger, CONFIG) == reason
        )
    assert destination_reason(instance(waiting=1), 8192.0, ledger, CONFIG) == "has_work_coming"


def test_the_budget_leaves_the_destination_its_threshold() -> None:
    (move,) = moves(instance("a", **FULL), instance("b", used_tokens=1000, running=5))
    assert 0 < move.budget_tokens <= 8192 - 1000 - 48 * 6
    assert (8192 - 1000 - move.budget_tokens) / 6 >= 48
    barely = instance("b", used_tokens=7820, running=5)
    assert moves(instance("a", **FULL), barely) == [], "not even a block"


def test_no_more_pairs_than_allowed() -> None:
    config = SchedulingConfig.for_policy("llumnix", rescheduling={"max_pairs": 1})
    members = [instance(f"s{n}", **FULL) for n in range(3)] + [instance(f"d{n}") for n in range(3)]
    assert len(moves(*members)) == 3
    assert len(moves(*members, config=config)) == 1


def test_stale_or_busy_sources_wait() -> None:
    assert moves(instance("a", age_s=60.0, **FULL), instance("b")) == []
    assert moves(instance("a", migrations_out=1, **FULL), instance("b")) == []
