from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from controlplane.fleet import services as fleet
from controlplane.fleet.models import Instance, Pool, ScalingRecord
from controlplane.rebalancing import services
from controlplane.rebalancing.types import PoolPolicy, Round
from controlplane.records.models import AuditEntry
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Decision, Drain, ScaleDown, ScaleUp, Undrain
from controlplane.scheduling.policies import PlanState
from controlplane.scheduling.snapshot import ClusterSnapshot
from tests.controlplane import builders
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db


def carry_out(pool: Pool, *decisions: Decision) -> None:
    state = PlanState()
    policy = PoolPolicy(pool.pk, pool.name, None, 0, SchedulingConfig.recommended())
    snapshot = ClusterSnapshot(NOW.timestamp(), ())
    services.carry_out_scaling([Round(policy, 1, 1, NOW, snapshot, state, state, decisions)])


def states() -> dict[str, str]:
    return dict(Instance.objects.values_list("instance_id", "state"))


def test_a_fleet_grows_up_to_its_pools_limit(chat_pool):
    Pool.objects.update(max_instances=2)
    carry_out(chat_pool, ScaleUp(5, "too full"))
    assert states() == {"chat-1": "pending", "chat-2": "pending"}
    carry_out(chat_pool, ScaleUp(1, "too full"))
    assert len(states()) == 2


def test_a_scale_down_drains_first_and_can_be_taken_back(chat_pool):
    row = builders.instance(of=chat_pool)
    builders.instance("chat-2", of=chat_pool)
    carry_out(chat_pool, ScaleDown("chat-1", "too empty"))
    row.refresh_from_db()
    assert (row.state, row.stop_when_drained) == ("draining", True)
    assert Pool.objects.get().target_instances == 1
    carry_out(chat_pool, Undrain("chat-1", "too full"))
    row.refresh_from_db()
    assert (row.state, row.accepting, row.stop_when_drained) == ("ready", True, False)
    assert Pool.objects.get().target_instances == 2


def test_what_a_person_drained_stays_drained(chat_pool):
    row = builders.instance(of=chat_pool)
    fleet.drain_instance(instance=row, actor="ann")
    carry_out(chat_pool, Undrain("chat-1", "too full"))
    assert states() == {"chat-1": "draining"}


def test_a_pool_never_shrinks_below_its_least(chat_pool):
    builders.instance(of=chat_pool)
    carry_out(chat_pool, ScaleDown("chat-1", "too empty"))
    assert states() == {"chat-1": "ready"}
    assert "must keep 1" in ScalingRecord.objects.get().problem


def test_each_change_is_audited_as_the_policys_with_its_reason(chat_pool):
    builders.instance(of=chat_pool)
    carry_out(chat_pool, Drain("chat-1", "because"))
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.reason) == ("system:policy", "because")


def test_each_decision_is_recorded_with_its_reason_and_what_became_of_it(chat_pool):
    carry_out(chat_pool, ScaleUp(2, "freeness 12 below 160"))
    row = ScalingRecord.objects.get()
    assert (row.action, row.target_before, row.target_after) == ("up", 0, 2)
    assert (row.reason, row.instance_ids, row.carried_out) == (
        "freeness 12 below 160",
        ["chat-1", "chat-2"],
        True,
    )


def test_while_held_nothing_changes_and_what_would_have_is_recorded_once(chat_pool):
    fleet.hold_scaling(
        pool=chat_pool, until=timezone.now() + timedelta(hours=1), actor="ann", reason="launch"
    )
    Pool.objects.update(scaling_held_until=NOW + timedelta(hours=1))
    for _ in range(3):
        carry_out(chat_pool, ScaleUp(1, "too full"))
    assert states() == {}
    (row,) = ScalingRecord.objects.filter(action="up")
    assert not row.carried_out
    assert "held until 2026-03-01 13:00:00 UTC by ann" in row.problem
    Pool.objects.update(scaling_held_until=NOW - timedelta(seconds=1))
    carry_out(chat_pool, ScaleUp(1, "too full"))
    assert states() == {"chat-1": "pending"}


def test_what_is_no_longer_possible_is_skipped_and_told(chat_pool):
    builders.instance(of=chat_pool, state="stopping")
    carry_out(chat_pool, ScaleDown("chat-1", "x"), Drain("nowhere", "x"), ScaleUp(1, "y"))
    assert states() == {"chat-1": "stopping", "chat-2": "pending"}
    assert list(ScalingRecord.objects.order_by("id").values_list("carried_out", flat=True)) == [
        False,
        False,
        True,
    ]
