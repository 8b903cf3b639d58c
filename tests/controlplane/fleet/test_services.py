from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from controlplane.fleet import services
from controlplane.fleet.agents import FakeAgentClient
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import GatewayProcess, Instance, InstanceTransition, Pool, TransitionError
from controlplane.fleet.progress import follow_operations
from controlplane.fleet.reconciliation import QUARANTINE_AFTER, reconcile, restart_pause_s
from controlplane.fleet.reports import Limits
from controlplane.records.models import AuditEntry, Operation
from engine_agents.messages import GatewayStatus
from tests.controlplane import builders
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db
LIMITS = Limits(stale_s=3.0, dead_s=10.0)
State = Instance.State


@pytest.fixture
def agents() -> FakeAgentClient:
    return FakeAgentClient()


def state_of(row: Instance) -> str:
    row.refresh_from_db()
    return row.state


def sync(*seen: SeenStatus, listening_s: float = 60.0) -> list[Instance]:
    return services.sync_instances(seen, limits=LIMITS, listening_s=listening_s, now=NOW)


# --------------------------------------------------------------- pools


def test_a_pool_is_made_once_and_changes_are_audited():
    fields: dict[str, Any] = {"name": "chat", "served_model": "tiny", "model_path": "/models/tiny"}
    services.ensure_pool(**fields, actor="ann")
    services.ensure_pool(**fields, actor="ann")
    services.ensure_pool(**fields, engine_args={"max_model_len": 99}, actor="ann")
    assert Pool.objects.get().engine_args == {"max_model_len": 99}
    assert sorted(AuditEntry.objects.values_list("action", flat=True)) == ["pool.change", "pool.create"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"name": "No Slug"}, "name"), ({"engine": "gguf"}, "engine"), ({"max_instances": 0}, "max_instances")],
)
def test_a_bad_pool_is_refused_by_field(changes, field):
    fields = {"name": "chat", "served_model": "tiny", "model_path": "/models/tiny"}
    with pytest.raises(ValidationError) as caught:
        services.ensure_pool(**fields | changes)
    assert field in caught.value.message_dict


def test_a_pool_does_not_grow_beyond_its_limit(chat_pool):
    Pool.objects.update(max_instances=2)
    chat_pool.refresh_from_db()
    added = services.add_instances(pool=chat_pool, count=2, actor="ann")
    assert [row.instance_id for row in added] == ["chat-1", "chat-2"]
    with pytest.raises(services.FleetError, match="may have 2"):
        services.add_instances(pool=chat_pool, count=1, actor="ann")


# --------------------------------------------------------------- life


def test_an_instance_is_started_once_with_its_pools_properties(chat_pool, agents):
    (row,) = services.add_instances(pool=chat_pool, count=1, actor="ann")
    reconcile(agents=agents, start_timeout_s=60, now=NOW)
    config = agents.started["chat-1"]
    assert (config.pool, config.model, config.engine) == ("chat", "/models/tiny", "paced")
    assert state_of(row) == "starting"


def test_two_that_start_the_same_instance_place_one_agent(chat_pool, agents):
    services.add_instances(pool=chat_pool, count=1, actor="ann")
    first, second = Instance.objects.get(), Instance.objects.get()
    services.start_instance(instance=first, agents=agents)
    agents.started.clear()
    services.start_instance(instance=second, agents=agents)
    assert agents.started == {}


def test_a_failed_placement_is_a_sentence_in_the_row(chat_pool, agents):
    agents.unreachable.add("chat-1")
    (row,) = services.add_instances(pool=chat_pool, count=1, actor="ann")
    reconcile(agents=agents, start_timeout_s=60, now=NOW)
    assert state_of(row) == "unhealthy"
    assert (row.cause, row.failures) == ("did not start: chat-1: no node has room", 1)


def test_stopping_an_agent_that_does_not_answer_stays_to_be_tried_again(chat_pool, agents):
    row = builders.instance(of=chat_pool)
    agents.unreachable.add("chat-1")
    services.stop_instance(instance=row, actor="ann")
    reconcile(agents=agents, start_timeout_s=60, now=NOW)
    assert state_of(row) == "stopping"
    agents.unreachable.clear()
    reconcile(agents=agents, start_timeout_s=60, now=NOW)
    assert state_of(row) == "stopped"


# --------------------------------------------------------------- wishes


def test_a_drain_is_a_wish_that_can_be_taken_back(chat_pool, sent_events, django_capture_on_commit_callbacks):
    row = builders.instance(of=chat_pool)
    with django_capture_on_commit_callbacks(execute=True):
        services.drain_instance(instance=row, actor="ann", reason="upgrade")
    assert (state_of(row), row.accepting, row.cause) == ("draining", False, "upgrade")
    assert [event.state for event in sent_events if hasattr(event, "state")] == ["draining"]
    services.undrain_instance(instance=row, actor="ann")
    assert (state_of(row), row.accepting) == ("ready", True)
    assert sorted(AuditEntry.objects.values_list("action", flat=True)) == [
        "instance.drain",
        "instance.undrain",
    ]


@pytest.mark.parametrize("state", [State.PENDING, State.STOPPING, State.STOPPED, State.QUARANTINED])
def test_what_does_not_run_cannot_be_drained(chat_pool, state):
    row = builders.instance(of=chat_pool, state=state)
    with pytest.raises(TransitionError, match=f"is {state}"):
        services.drain_instance(instance=row, actor="ann")
    assert not AuditEntry.objects.exists()


def test_a_retired_instance_is_stopped_once_it_is_empty(chat_pool, agents):
    row = builders.instance(of=chat_pool)
    services.retire_instance(instance=row, actor="ann")
    sync(SeenStatus(builders.status(accepting=False, running=1), 0.0))
    reconcile(agents=agents, start_timeout_s=60, now=NOW)
    assert state_of(row) == "draining"
    sync(SeenStatus(builders.status(accepting=False), 0.0))
    assert state_of(row) == "drained"
    reconcile(agents=agents, start_timeout_s=60, now=NOW)
    assert state_of(row) == "stopped"


# --------------------------------------------------------------- reports


def test_an_instance_becomes_ready_when_its_agent_says_so(chat_pool):
    row = builders.instance(of=chat_pool, state=State.STARTING)
    for reported, expected in (("warming", "warming"), ("ready", "ready")):
        sync(SeenStatus(builders.status(state=reported, pid=7), 0.0))
        assert state_of(row) == expected
    assert (row.pid, row.incarnation) == (7, "chat-1-a")


def test_one_that_was_to_stay_drained_comes_back_drained(chat_pool):
    row = builders.instance(of=chat_pool, state=State.STARTING, accepting=False)
    for accepting, expected in ((True, "ready"), (True, "draining"), (False, "drained")):
        sync(SeenStatus(builders.status(accepting=accepting), 0.0))
        assert state_of(row) == expected
    deaf = builders.instance("chat-2", of=chat_pool, accepting=False)
    for expected in ("draining", "drained"):
        sync(SeenStatus(builders.status("chat-2", accepting=False), 0.0))
        assert state_of(deaf) == expected


def test_unchanged_instances_are_read_and_not_written(chat_pool):
    for name in ("chat-1", "chat-2"):
        builders.instance(name, of=chat_pool)
    seen = [SeenStatus(builders.status(name), 0.0) for name in ("chat-1", "chat-2")]
    sync(*seen)
    with CaptureQueriesContext(connection) as queries:
        assert sync(*seen) == []
    assert [each["sql"] for each in queries if "UPDATE" in each["sql"].split("FOR")[0]] == []


def test_a_silent_instance_is_unhealthy_and_heals_when_heard_again(chat_pool):
    row = builders.instance(of=chat_pool)
    sync(SeenStatus(builders.status(), 9.0))
    assert state_of(row) == "ready"
    sync(SeenStatus(builders.status(), 11.0))
    assert (state_of(row), row.cause) == ("unhealthy", "silent for 11 s")
    sync(SeenStatus(builders.status(seq=2), 0.0))
    assert state_of(row) == "ready"


def test_an_instance_never_heard_of_is_not_dead_before_the_reader_listened_long_enough(chat_pool):
    row = builders.instance(of=chat_pool)
    sync(listening_s=5.0)
    assert state_of(row) == "ready"
    sync(listening_s=11.0)
    assert state_of(row) == "unhealthy"


def test_nobody_is_called_silent_while_nobody_listened(chat_pool):
    row = builders.instance(of=chat_pool)
    sync(SeenStatus(builders.status(), 300.0), listening_s=1.0)
    assert state_of(row) == "ready"


def test_a_stale_report_changes_nothing(chat_pool):
    row = builders.instance(of=chat_pool, state=State.STARTING)
    assert sync(SeenStatus(builders.status(), 4.0)) == []
    assert state_of(row) == "starting"


def test_last_words_do_not_revive_what_was_stopped(chat_pool):
    row = builders.instance(of=chat_pool, state=State.STOPPED)
    sync(SeenStatus(builders.status(), 0.0))
    assert state_of(row) == "stopped"


# --------------------------------------------------------------- failures


def test_an_agent_that_cannot_start_is_tried_again_with_growing_pauses_then_quarantined(chat_pool, agents):
    row = builders.instance(of=chat_pool, state=State.PENDING)
    agents.start_problems["chat-1"] = "the model folder /models/tiny does not exist"
    now, starts = NOW, 0
    for _ in range(200):
        agents.started.clear()
        reconcile(agents=agents, start_timeout_s=60, now=now)
        starts += len(agents.started)
        row.refresh_from_db()
        if row.state == "quarantined":
            break
        Instance.objects.update(changed_at=now)
        now += timedelta(seconds=restart_pause_s(row.failures))
    assert row.state == "quarantined"
    assert starts == QUARANTINE_AFTER
    assert "does not exist" in row.cause


def test_pauses_between_starts_double_up_to_a_limit():
    pauses = [restart_pause_s(failures) for failures in range(1, 12)]
    assert pauses == sorted(pauses)
    assert pauses[1] == 2 * pauses[0]
    assert pauses[-1] == pauses[-2] == 300.0


def test_an_agent_that_takes_too_long_to_start_is_unhealthy(chat_pool, agents):
    row = builders.instance(of=chat_pool, state=State.STARTING)
    reconcile(agents=agents, start_timeout_s=60, now=NOW + timedelta(seconds=61))
    assert (state_of(row), row.cause) == ("unhealthy", "did not start: not ready within 60 s")


def test_a_silent_agent_that_still_exists_is_waited_for(chat_pool, agents):
    row = builders.instance(of=chat_pool, state=State.UNHEALTHY)
    reconcile(agents=agents, start_timeout_s=60, now=NOW + timedelta(hours=1))
    assert state_of(row) == "unhealthy"
    assert agents.started == {}


def test_an_agent_that_neither_reports_nor_answers_is_ended_and_started_again(chat_pool, agents):
    row = builders.instance(of=chat_pool, state=State.UNHEALTHY)
    agents.started["chat-1"] = services.agent_config(row)
    agents.unreachable.add("chat-1")
    reconcile(agents=agents, start_timeout_s=60, now=NOW + timedelta(seconds=60))
    assert state_of(row) == "unhealthy"
    reconcile(agents=agents, start_timeout_s=60, now=NOW + timedelta(seconds=121))
    assert (state_of(row), row.when_drained) == ("stopping", "restart")
    agents.unreachable.clear()
    reconcile(agents=agents, start_timeout_s=60, now=NOW + timedelta(seconds=123))
    assert state_of(row) == "starting"


def test_states_that_settled_cost_one_query(chat_pool, agents, django_assert_num_queries):
    for number in range(5):
        builders.instance(f"chat-{number}", of=chat_pool)
    with django_assert_num_queries(1):
        reconcile(agents=agents, start_timeout_s=60, now=NOW)


# --------------------------------------------------------------- gateways


def gateway(gateway_id: str = "g-1", *, age: timedelta = timedelta(), **changes: Any) -> GatewayStatus:
    fields: dict[str, Any] = {
        "incarnation": "a",
        "pool": "chat",
        "url": "http://127.0.0.1:8801",
        "reported_at_s": (NOW - age).timestamp(),
        "open_streams": 0,
        "queued": 0,
        "per_class": [],
    }
    return GatewayStatus(gateway_id=gateway_id, **fields | changes)


def test_gateways_are_listed_as_they_report_and_forgotten_in_the_end():
    services.sync_gateways([gateway(), gateway("old", age=timedelta(days=2))], now=NOW)
    services.sync_gateways([gateway(incarnation="b")], now=NOW + timedelta(seconds=5))
    row = GatewayProcess.objects.get()
    assert (row.gateway_id, row.incarnation, row.first_seen_at) == ("g-1", "b", NOW)


# --------------------------------------------------------------- targets, restarts, deadlines


def jobs(agents: FakeAgentClient, now: Any = NOW) -> str:
    return reconcile(agents=agents, start_timeout_s=60, now=now)


def test_a_pool_is_scaled_by_people_within_its_limits(chat_pool, agents):
    services.scale_pool(pool=chat_pool, target=3, actor="ann")
    assert chat_pool.instances.count() == chat_pool.target_instances == 3
    Instance.objects.update(state=State.READY)
    services.scale_pool(
        pool=chat_pool, target=1, actor="ann", running={"chat-1": 9, "chat-2": 1, "chat-3": 0}
    )
    leaving = Instance.objects.filter(when_drained="stop").values_list("instance_id", flat=True)
    assert set(leaving) == {"chat-2", "chat-3"}
    services.scale_pool(pool=chat_pool, target=2, actor="ann")
    assert Instance.objects.filter(accepting=True).count() == 2, "who is leaving is kept before one is added"
    with pytest.raises(services.FleetError, match="may have 1 to 8"):
        services.scale_pool(pool=chat_pool, target=9, actor="ann")


def test_stopped_instances_come_back_before_new_ones_are_made(chat_pool):
    builders.instance(of=chat_pool, state=State.STOPPED, failures=3)
    rows = services.add_instances(pool=chat_pool, count=2, actor="ann")
    assert [(row.instance_id, row.state, row.failures) for row in rows] == [
        ("chat-1", "pending", 0),
        ("chat-2", "pending", 0),
    ]


def test_a_restart_drains_ends_and_starts_with_the_pools_new_properties(chat_pool, agents):
    row = builders.instance(of=chat_pool, pool_revision=1)
    changes = {"engine_args": {"base_step_ms": 9.0}, "migration_args": {"copy_share": 0.1}}
    services.change_pool(pool=chat_pool, actor="ann", **changes)
    services.restart_instance(instance=row, actor="ann")
    assert state_of(row) == "draining"
    sync(SeenStatus(builders.status(accepting=False), 0.0))
    jobs(agents)
    assert (state_of(row), row.when_drained, row.accepting) == ("starting", "stay", True)
    assert row.pool_revision == 2
    started = agents.started["chat-1"]
    assert (started.engine_args, started.copy_share) == ({"base_step_ms": 9.0}, 0.1)


def test_last_words_of_an_ended_agent_are_no_news_of_its_successor(chat_pool, agents):
    row = builders.instance(of=chat_pool, incarnation="chat-1-a")
    services.stop_instance(instance=row, actor="ann")
    jobs(agents)
    services.release_instance(instance=Instance.objects.get(), actor="ann")
    jobs(agents)
    for last_words in ("ready", "stopping"):
        sync(SeenStatus(builders.status(state=last_words), 0.5))
        assert state_of(row) == "starting"
    sync(SeenStatus(builders.status(incarnation="chat-1-b"), 0.0))
    assert state_of(row) == "ready"


def test_an_agent_that_ends_by_itself_is_unhealthy_and_started_again(chat_pool, agents):
    row = builders.instance(of=chat_pool)
    sync(SeenStatus(builders.status(state="stopping"), 0.0))
    assert (state_of(row), row.cause) == ("unhealthy", "its agent ended by itself")


def test_a_drain_past_its_deadline_waits_or_ends_the_engine_as_chosen(chat_pool, agents):
    for name, choice in (("chat-1", "wait"), ("chat-2", "recompute")):
        row = builders.instance(name, of=chat_pool)
        services.drain_instance(instance=row, actor="ann", deadline_s=60, on_deadline=choice)
    late = timezone.now() + timedelta(seconds=61)
    jobs(agents)
    assert set(Instance.objects.values_list("state", flat=True)) == {"draining"}
    jobs(agents, late)
    assert Instance.objects.get(instance_id="chat-1").state == "draining"
    second = Instance.objects.get(instance_id="chat-2")
    assert (second.state, second.accepting) == ("starting", False), "it comes back drained"


@pytest.mark.parametrize(("deadline_s", "choice"), [(-1.0, "wait"), (1e9, "wait"), (1.0, "explode")])
def test_a_bad_deadline_is_refused(chat_pool, deadline_s, choice):
    row = builders.instance(of=chat_pool)
    with pytest.raises(services.FleetError):
        services.drain_instance(instance=row, actor="ann", deadline_s=deadline_s, on_deadline=choice)


def test_every_transition_is_kept_with_cause_time_and_actor(chat_pool, agents):
    services.add_instances(pool=chat_pool, count=1, actor="ann", reason="launch")
    jobs(agents)
    sync(SeenStatus(builders.status(), 0.0))
    services.drain_instance(instance=Instance.objects.get(), actor="bob", reason="disk")
    kept = InstanceTransition.objects.order_by("id").values_list("previous", "state", "cause", "actor")
    assert list(kept) == [
        ("", "pending", "launch", "ann"),
        ("pending", "starting", "placing its agent", "system:fleet"),
        ("starting", "ready", "its agent is ready", "system:fleet"),
        ("ready", "draining", "disk", "bob"),
    ]


def test_without_a_cluster_nothing_is_judged_placed_or_counted_as_failed(chat_pool, agents):
    services.add_instances(pool=chat_pool, count=1, actor="ann")
    dead = builders.instance("chat-9", of=chat_pool, state=State.UNHEALTHY, failures=1)
    agents.cluster_problem = "Ray's head does not answer"
    agents.start_problems["chat-9"] = "gone"
    later = NOW + timedelta(hours=1)
    assert jobs(agents, later) == "Ray's head does not answer"
    assert dict(Instance.objects.values_list("instance_id", "state")) == {
        "chat-1": "pending",
        "chat-9": "unhealthy",
    }
    agents.cluster_problem = ""
    assert jobs(agents, later) == ""
    assert (state_of(dead), dead.failures) == ("starting", 1)


def test_an_engine_told_to_end_is_drained_and_started_again(chat_pool, agents):
    row = builders.instance(of=chat_pool)
    sync(SeenStatus(builders.status(accepting=False, leaving=True, running=2), 0.0))
    assert (state_of(row), row.accepting, row.when_drained) == ("draining", False, "restart")


def test_operations_tell_how_far_a_drain_is_and_end_with_it(chat_pool, agents):
    row = builders.instance(of=chat_pool)
    services.drain_instance(instance=row, actor="ann")
    operation = Operation.objects.get(operation_id=row.operation_id)
    for left, done in ((4, 0), (1, 3)):
        follow_operations(reports={"chat-1": builders.status(running=left)}, now=timezone.now())
        operation.refresh_from_db()
        assert (operation.done, operation.total, operation.state) == (done, 4, "running")
    sync(SeenStatus(builders.status(accepting=False), 0.0))
    Instance.objects.update(changed_at=timezone.now())
    follow_operations(reports={}, now=timezone.now())
    operation.refresh_from_db()
    assert (operation.state, operation.done) == ("succeeded", 4)


def test_undraining_cancels_the_drain(chat_pool):
    row = builders.instance(of=chat_pool)
    services.drain_instance(instance=row, actor="ann", deadline_s=5, on_deadline="recompute")
    operation_id = row.operation_id
    services.undrain_instance(instance=row, actor="bob")
    assert Operation.objects.get(operation_id=operation_id).state == "cancelled"
    assert (row.drain_deadline_at, row.on_deadline, row.operation_id) == (None, "wait", "")


def test_a_quarantined_instance_is_released_by_a_person(chat_pool, agents):
    row = builders.instance(of=chat_pool, state=State.QUARANTINED, failures=5)
    services.release_instance(instance=row, actor="ann")
    assert (state_of(row), row.failures) == ("pending", 0)


def test_a_pool_is_deleted_only_when_nothing_of_it_runs(chat_pool):
    row = builders.instance(of=chat_pool)
    with pytest.raises(services.FleetError, match="chat-1"):
        services.delete_pool(pool=chat_pool, actor="ann")
    Instance.objects.filter(pk=row.pk).update(state=State.STOPPED)
    services.delete_pool(pool=chat_pool, actor="ann")
    assert not Pool.objects.exists()


def test_old_history_is_forgotten(chat_pool):
    services.add_instances(pool=chat_pool, count=1, actor="ann")
    services.hold_scaling(pool=chat_pool, until=timezone.now() + timedelta(hours=1), actor="ann")
    assert services.delete_history_before(timezone.now() - timedelta(days=1)) == {
        "transitions": 0,
        "scaling": 0,
    }
    assert services.delete_history_before(timezone.now() + timedelta(days=1)) == {
        "transitions": 1,
        "scaling": 1,
    }


def test_an_instance_is_emptied_once_and_takes_work_again(chat_pool, agents):
    row = services.migrate_all(instance=builders.instance(of=chat_pool), actor="ann")
    operation_id = row.operation_id
    sync(SeenStatus(builders.status(accepting=False), 0.0))
    jobs(agents)
    assert (state_of(row), row.accepting, row.when_drained) == ("ready", True, "stay")
    assert Operation.objects.get(operation_id=operation_id).state == "succeeded"
