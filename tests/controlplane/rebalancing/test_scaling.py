from __future__ import annotations

import pytest

from controlplane.fleet import services as fleet
from controlplane.fleet.models import Instance, Pool
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
    policy = PoolPolicy(pool.pk, pool.name, None, 0, SchedulingConfig())
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
    carry_out(chat_pool, ScaleDown("chat-1", "too empty"))
    row.refresh_from_db()
    assert (row.state, row.stop_when_drained) == ("draining", True)
    carry_out(chat_pool, Undrain("chat-1", "too full"))
    row.refresh_from_db()
    assert (row.state, row.accepting, row.stop_when_drained) == ("ready", True, False)


def test_what_a_person_drained_stays_drained(chat_pool):
    row = builders.instance(of=chat_pool)
    fleet.drain_instance(instance=row, actor="ann")
    carry_out(chat_pool, Undrain("chat-1", "too full"))
    assert states() == {"chat-1": "draining"}


def test_each_change_is_audited_as_the_policys_with_its_reason(chat_pool):
    builders.instance(of=chat_pool)
    carry_out(chat_pool, Drain("chat-1", "because"))
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.reason) == ("system:policy", "because")


def test_what_is_no_longer_possible_is_skipped(chat_pool):
    builders.instance(of=chat_pool, state="stopped")
    carry_out(chat_pool, ScaleDown("chat-1", "x"), Drain("nowhere", "x"), ScaleUp(1, "y"))
    assert states() == {"chat-1": "stopped", "chat-2": "pending"}
