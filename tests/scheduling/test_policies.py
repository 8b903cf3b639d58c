from __future__ import annotations

import json

import pytest

from controlplane.scheduling.config import POLICY_NAMES, SchedulingConfig
from controlplane.scheduling.decisions import Hole, Migrate, ScaleUp
from controlplane.scheduling.policies import POLICIES, PlanState, plan
from controlplane.scheduling.scaling import ScalingState
from controlplane.scheduling.snapshot import ClassUse
from tests.scheduling.clusters import cluster, instance, request

FULL = {"used_tokens": 8100, "running": 10}


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_only_policies_that_reschedule_do(policy: str) -> None:
    snapshot = cluster(instance("a", **FULL), instance("b"))
    decisions, _ = plan(snapshot, PlanState(), SchedulingConfig.for_policy(policy))
    assert bool(decisions) == POLICIES[policy].reschedules
    off = SchedulingConfig.for_policy(policy, rescheduling={"enabled": False})
    assert plan(snapshot, PlanState(), off) == ((), PlanState())


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_only_policies_with_priorities_make_headroom(policy: str) -> None:
    mixed = (ClassUse("interactive", 1, 0, 500), ClassUse("standard", 4, 0, 1200))
    snapshot = cluster(instance("a", used_tokens=1700, running=5, classes=mixed), instance("b"))
    decisions, _ = plan(snapshot, PlanState(), SchedulingConfig.for_policy(policy))
    assert [each.rule for each in decisions] == ["headroom"] * POLICIES[policy].priorities


def test_scaling_is_for_every_policy() -> None:
    config = SchedulingConfig.for_policy("round_robin", scaling={"enabled": True})
    (up,), state = plan(cluster(instance("a", **FULL)), PlanState(), config)
    assert isinstance(up, ScaleUp)
    assert state.scaling.changed_at_s == 100.0
    assert plan(cluster(instance("a", **FULL)), state, config) == ((), state)


def test_a_hole_s_move_comes_before_the_pairing_s() -> None:
    config = SchedulingConfig.for_policy("llumdeck")
    waiter = request("w", 3000, at_s=1.0)
    snapshot = cluster(
        instance("a", used_tokens=7900, running=10),
        instance("b", used_tokens=5500, running=5),
        instance("c", used_tokens=5600, running=5),
        waiters=(waiter,),
    )
    decisions, state = plan(snapshot, PlanState(), config)
    assert [type(each) for each in decisions] == [Hole, Migrate]
    assert decisions[1].rule == "hole"
    assert state.holes == {"b": "w"}
    _, later = plan(cluster(*snapshot.instances), state, config)
    assert later.holes == {}, "nobody waits any more"


def test_the_state_survives_plain_data_and_old_states_stay_readable() -> None:
    state = PlanState(frozenset({"b", "a"}), {"a": "w"}, ScalingState(1.0, 2.0))
    assert PlanState.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert PlanState.from_dict({"something": "else"}) == PlanState()
