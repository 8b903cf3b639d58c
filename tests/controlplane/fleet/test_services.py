from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.fleet import services
from controlplane.fleet.agents import FakeAgentClient
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import GatewayProcess, Instance, Pool, TransitionError
from controlplane.fleet.reconciliation import QUARANTINE_AFTER, reconcile, restart_pause_s
from controlplane.fleet.reports import Limits
from controlplane.records.models import AuditEntry
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
