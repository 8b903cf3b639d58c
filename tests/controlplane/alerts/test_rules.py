"""Kinds of rules as tables: facts in, findings out."""

from __future__ import annotations

import pytest

from controlplane.alerts.facts import ClassWindow, Facts, InstanceFact, LimitFact
from controlplane.alerts.rules import KINDS, check_parameters, find, fragmented_share


def instance(name: str = "i-1", **changes) -> InstanceFact:
    fields = {"pool": "chat", "state": "ready", "age_s": 1.0, "capacity_tokens": 1000, "free_tokens": 500}
    return InstanceFact(name, **fields | changes)


def windows(short: tuple[int, int], long: tuple[int, int]) -> dict:
    return {("fast", 5): ClassWindow(*short), ("fast", 60): ClassWindow(*long)}


@pytest.mark.parametrize(
    ("kind", "given", "facts", "subjects"),
    [
        ("slo_burn_rate", {}, Facts(windows=windows((100, 10), (1000, 100))), ["fast"]),
        ("slo_burn_rate", {}, Facts(windows=windows((100, 10), (1000, 10))), []),  # A blip.
        ("slo_burn_rate", {}, Facts(windows=windows((100, 0), (1000, 100))), []),  # It is over.
        ("slo_burn_rate", {}, Facts(windows=windows((19, 19), (1000, 900))), []),  # Too few to say.
        ("slo_burn_rate", {}, Facts(), []),
        ("instance_stale", {}, Facts(instances=[instance(age_s=11.0), instance("i-2")]), ["i-1"]),
        ("instance_stale", {}, Facts(instances=[instance(age_s=11.0, state="stopped")]), []),
        ("instance_stale", {}, Facts(instances=[instance(age_s=None)]), []),
        ("instance_unhealthy", {}, Facts(instances=[instance(state="quarantined")]), ["i-1"]),
        ("no_ready_instance", {}, Facts(instances=[instance(state="draining")]), ["chat"]),
        ("no_ready_instance", {}, Facts(instances=[instance(), instance("i-2", state="unhealthy")]), []),
        ("queue_time", {"seconds": 5}, Facts(longest_wait_s={"fast": 5.1, "slow": 5.0}), ["fast"]),
        ("preemption_storm", {}, Facts(preemptions_per_minute={"chat": 61.0, "code": 60.0}), ["chat"]),
        ("loop_not_leading", {}, Facts(loop_silent_s=None), [""]),
        ("loop_not_leading", {}, Facts(loop_silent_s=10.1), [""]),
        ("loop_not_leading", {}, Facts(loop_silent_s=9.0), []),
        ("quota_near", {}, Facts(limits=[LimitFact("a", "rpm", 90, 100)]), ["a rpm"]),
        ("quota_near", {}, Facts(limits=[LimitFact("b", "rpm", 1, 0)]), []),
    ],
)  # fmt: skip
def test_what_each_kind_finds(kind, given, facts, subjects):
    assert [each.subject for each in find(kind, given, facts) or []] == subjects


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.needs_live])
def test_nothing_is_concluded_from_facts_that_cannot_be_read(kind):
    assert find(kind, {}, Facts(blind=True)) is None


def test_scattered_memory_is_what_waiting_requests_could_fill_together():
    apart = [instance(head_of_line_tokens=600), instance("i-2", head_of_line_tokens=900)]
    assert fragmented_share(apart) == 600 / 2000
    assert fragmented_share([instance()]) == 0.0
    assert fragmented_share([]) == 0.0


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("queue_time", {"seconds": -1}, "from 0.1 to 3600"),
        ("queue_time", {"minutes": 1}, "it has: seconds"),
        ("queue_time", {"seconds": "ten"}, "must be a number"),
        ("queue_time", {"seconds": True}, "must be a number"),
        ("queue_time", [], "mapping"),
        ("weather", {}, "there is no kind"),
    ],
)
def test_bad_parameters_are_told_in_sentences(kind, given, words):
    assert words in " ".join(check_parameters(kind, given))


def test_defaults_are_within_their_ranges():
    for name in KINDS:
        assert check_parameters(name, {}) == []
