from __future__ import annotations

import pytest

from controlplane.scheduling.config import POLICY_NAMES, SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Hold, Reject
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.policies import dispatch
from controlplane.scheduling.snapshot import ClassUse
from tests.scheduling.clusters import cluster, instance, request


def where(policy: str, *instances, ledger: Ledger | None = None, slo_class: str = "standard", **parts) -> str:
    config = SchedulingConfig.for_policy(policy, **parts)
    decision = dispatch(cluster(*instances), ledger or Ledger(), request(slo_class=slo_class), config)
    assert isinstance(decision, Dispatch)
    return decision.instance_id


def test_round_robin_takes_who_got_the_fewest() -> None:
    ledger = Ledger()
    ledger.sent("a", 1, 1)
    ledger.reconcile("a", 1)
    assert (
        where("round_robin", instance("a"), instance("b", used_tokens=8000, running=9), ledger=ledger) == "b"
    )


def test_least_outstanding_counts_what_is_on_its_way_and_the_speed() -> None:
    ledger = Ledger()
    ledger.sent("a", 1, 1)
    assert where("least_outstanding", instance("a"), instance("b"), ledger=ledger) == "b"
    fast = instance("a", running=3, relative_speed=2.0)
    assert where("least_outstanding", fast, instance("b", running=2)) == "a"


def test_freeness_is_memory_per_request_not_memory() -> None:
    many_small = instance("a", used_tokens=2000, running=20)
    one_large = instance("b", used_tokens=4000, running=1)
    for policy in ("infaas++", "llumnix_base", "llumnix", "llumnix_ledger"):
        assert where(policy, many_small, one_large) == "b"


def test_the_demand_of_the_whole_queue_counts() -> None:
    queued = instance("a", waiting=2, head_of_line_tokens=16, queued_tokens=8000)
    assert where("infaas++", queued, instance("b", used_tokens=6000, running=2)) == "b"


def test_only_the_ledger_s_policies_know_what_is_on_its_way() -> None:
    ledger = Ledger()
    ledger.sent("a", 1, 6000)
    pair = (instance("a", running=1), instance("b", used_tokens=100, running=1))
    assert where("llumnix", *pair, ledger=ledger) == "a"
    assert where("llumnix_ledger", *pair, ledger=ledger) == "b"
    assert where("llumnix", *pair, ledger=ledger, dispatch={"in_flight_accounting": True}) == "b"
    assert where("llumnix_ledger", *pair, ledger=ledger, dispatch={"in_flight_accounting": False}) == "a"


def test_others_avoid_an_instance_that_hosts_a_class_with_headroom() -> None:
    hosting = instance("a", used_tokens=500, running=1, classes=(ClassUse("interactive", 1, 0, 500),))
    plain = instance("b", used_tokens=3000, running=1)
    for policy in ("llumnix", "llumnix_ledger"):
        assert where(policy, hosting, plain) == "b"
        assert where(policy, hosting, plain, slo_class="undeclared") == "b"
        assert where(policy, hosting, plain, slo_class="interactive") == "a"
    assert where("llumnix_base", hosting, plain) == "a"


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_ties_are_decided_by_id_whatever_the_order(policy: str) -> None:
    members = [instance(name) for name in "cab"]
    assert where(policy, *members) == where(policy, *reversed(members)) == "a"


def test_nobody_taking_work_now_means_wait() -> None:
    decision = dispatch(cluster(instance(draining=True)), Ledger(), request(), SchedulingConfig())
    assert isinstance(decision, Hold)
    assert "draining" in decision.reason
    nobody = dispatch(cluster(), Ledger(), request(), SchedulingConfig())
    assert isinstance(nobody, Hold)
    assert "empty" in nobody.reason


def test_what_fits_nowhere_ever_is_rejected() -> None:
    decision = dispatch(cluster(instance()), Ledger(), request(tokens=9000), SchedulingConfig())
    assert isinstance(decision, Reject)
    assert "9000" in decision.reason
    mixed = cluster(instance("a"), instance("b", capacity_tokens=90_000, draining=True))
    assert isinstance(dispatch(mixed, Ledger(), request(tokens=9000), SchedulingConfig()), Hold)


def test_a_class_with_headroom_shares_it_before_it_opens_new() -> None:
    hosting = instance("a", used_tokens=3000, running=3, classes=(ClassUse("interactive", 1, 0, 500),))
    empty = instance("b")
    for policy in ("llumnix", "llumnix_ledger"):
        assert where(policy, hosting, empty, slo_class="interactive") == "a"
        assert where(policy, hosting, empty, slo_class="standard") == "b"
    assert where("llumnix_base", hosting, empty, slo_class="interactive") == "b"


def test_where_only_headroom_is_left_many_requests_make_no_instance_look_better() -> None:
    uses = (ClassUse("interactive", 1, 0, 500),)
    crowded = instance("a", used_tokens=3000, running=30, classes=uses)
    lonely = instance("b", used_tokens=3000, running=2, classes=uses)
    assert where("llumnix", crowded, lonely) == "b"
