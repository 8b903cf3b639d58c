from __future__ import annotations

import json

import pytest
from hypothesis import given

from controlplane.scheduling.config import POLICY_NAMES, SchedulingConfig
from controlplane.scheduling.decisions import Drain, Hold, Hole, Migrate, Reject, ScaleDown, ScaleUp, Undrain
from controlplane.scheduling.explain import explain
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.policies import PlanState, dispatch, plan
from controlplane.scheduling.queueing import FleetQueue, next_dispatches
from tests.scheduling.clusters import cluster, clusters, examples, instance, request, requests

FULL = {"used_tokens": 8100, "running": 10}


@pytest.mark.parametrize("policy", [name for name in POLICY_NAMES if name != "llumdeck"])
@examples
@given(snapshot=clusters(), asked=requests)
def test_an_immediate_dispatch_names_the_best_and_why_others_fell(policy, snapshot, asked) -> None:
    config = SchedulingConfig.for_policy(policy)
    decision = dispatch(snapshot, Ledger(), asked, config)
    told = explain(snapshot, decision, config, request=asked)
    json.dumps(told.to_dict())
    assert len(told.candidates) == len(snapshot.instances)
    assert told.margin is None or told.margin >= 0
    chosen = [row.instance_id for row in told.candidates if row.role == "chosen"]
    assert chosen == ([] if isinstance(decision, Hold | Reject) else [decision.instance_id])
    assert all(row.reason for row in told.candidates if row.role == "dropped")


@examples
@given(snapshot=clusters(), asked=requests)
def test_a_late_dispatch_names_the_best_and_why_others_fell(snapshot, asked) -> None:
    config = SchedulingConfig.for_policy("llumdeck")
    queue = FleetQueue()
    queue.add(asked, 1, 0.0)
    for decision in next_dispatches(queue, snapshot, Ledger(), config):
        told = explain(snapshot, decision, config, request=asked)
        assert told.rule == "late_binding"
        assert told.margin is None or told.margin >= 0
        assert [row.instance_id for row in told.candidates if row.role == "chosen"] == [decision.instance_id]


@examples
@given(clusters())
def test_every_planned_decision_can_be_explained(snapshot) -> None:
    config = SchedulingConfig.for_policy("llumdeck", scaling={"enabled": True})
    for decision in plan(snapshot, PlanState(), config)[0]:
        told = explain(snapshot, decision, config)
        json.dumps(told.to_dict())
        assert told.sentence
        assert told.would_change
        if isinstance(decision, Migrate):
            roles = {row.instance_id: row.role for row in told.candidates}
            assert roles[decision.source_id] == "source"
            assert roles[decision.destination_id] == "chosen"


def test_what_would_have_changed_a_move() -> None:
    snapshot = cluster(instance("a", **FULL), instance("b"))
    config = SchedulingConfig()
    (move,), _ = plan(snapshot, PlanState(), config)
    told = explain(snapshot, move, config)
    assert told.would_change.startswith("39 tokens more of freeness")
    assert told.numbers["source_threshold_tokens"] == 48
    assert "up to 1 request and" in told.sentence


@pytest.mark.parametrize(
    ("rule", "words"), [("drain", "Undraining"), ("preempted", "Memory at"), ("hole", "700 tokens more")]
)
def test_what_would_have_changed_other_moves(rule: str, words: str) -> None:
    move = Migrate("a", "b", rule, 500, 2, need_tokens=700)
    told = explain(cluster(instance("a", draining=True), instance("b")), move, SchedulingConfig())
    assert told.would_change.startswith(words) or words in told.would_change
    assert told.candidates[0].freeness_tokens is None


def test_a_hole_shows_deficits() -> None:
    snapshot = cluster(instance("a", **FULL), instance("b", used_tokens=6000, running=3))
    told = explain(snapshot, Hole("w", "b", 4000), SchedulingConfig.for_policy("llumdeck"))
    assert told.rule == "hole"
    assert told.margin is not None and told.margin > 0


@pytest.mark.parametrize(
    ("decision", "rule"),
    [
        (ScaleUp(2, "too small"), "scale_up"),
        (Undrain("a", "too small"), "undrain"),
        (ScaleDown("a", "too large"), "scale_down"),
        (Drain("a", "upgrade"), "drain"),
    ],
)
def test_scaling_shows_the_mean_and_the_band(decision, rule: str) -> None:
    told = explain(cluster(instance("a", **FULL)), decision, SchedulingConfig())
    assert told.rule == rule
    assert told.sentence == decision.reason
    assert set(told.numbers) >= {"mean_freeness_tokens", "low_freeness_tokens", "high_freeness_tokens"}


def test_a_refusal_shows_every_reason() -> None:
    snapshot = cluster(instance("a", draining=True), instance("b", age_s=99.0))
    config = SchedulingConfig()
    asked = request()
    told = explain(snapshot, dispatch(snapshot, Ledger(), asked, config), config, request=asked)
    assert {row.instance_id: row.reason for row in told.candidates} == {"a": "draining", "b": "stale"}
    assert explain(snapshot, Reject("r", "never"), config).rule == "reject"


def test_a_request_that_waits_for_the_reserve_is_told_so() -> None:
    config = SchedulingConfig.for_policy("llumdeck")
    snapshot = cluster(instance("a", used_tokens=7800, running=10))
    asked = request("r", 64)
    held = Hold(asked.request_id, "waits")
    (now,) = explain(snapshot, held, config, request=asked).candidates
    (short,) = explain(snapshot, held, config, request=asked, reserve_tokens=24.0).candidates
    assert (now.reason, short.reason) == ("", "reserve")
