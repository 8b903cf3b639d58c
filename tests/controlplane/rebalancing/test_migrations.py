from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.rebalancing import services
from controlplane.rebalancing.models import RequestMigration
from controlplane.rebalancing.patience import Patience
from controlplane.rebalancing.services import MoveError
from controlplane.records.models import AuditEntry
from engine_agents.messages import StageRecord
from tests.controlplane import builders
from tests.controlplane.builders import NOW, outcome

pytestmark = pytest.mark.django_db

STAGE = StageRecord(stage=0, blocks=4, bytes=4096, duration_ms=1.5, tokens_meanwhile=2)


def only_row() -> RequestMigration:
    return RequestMigration.objects.get()


# --------------------------------------------------------------- outcomes


def test_a_migration_nobody_knew_gets_its_row_from_its_outcomes():
    services.apply_outcomes(
        [
            outcome(state="reserving", at_s=NOW.timestamp()),
            outcome(state="copying", stages=[STAGE], at_s=NOW.timestamp() + 1),
            outcome(state="done", stages=[STAGE], downtime_ms=3.5, tokens_moved=64, at_s=NOW.timestamp() + 2),
        ]
    )
    row = only_row()
    assert (row.state, row.downtime_ms, row.tokens_moved) == ("done", 3.5, 64)
    assert (row.started_at, row.finished_at) == (NOW, NOW + timedelta(seconds=2))
    assert row.stages == [{"stage": 0, "blocks": 4, "bytes": 4096, "duration_ms": 1.5, "tokens_meanwhile": 2}]


def test_a_final_state_stays():
    services.apply_outcomes([outcome(state="aborted", reason="finished")])
    assert services.apply_outcomes([outcome(state="copying"), outcome(state="done")]) == []
    assert (only_row().state, only_row().reason) == ("aborted", "finished")


def test_an_aborted_migration_has_no_downtime():
    services.apply_outcomes([outcome(state="aborted", downtime_ms=0.0)])
    assert only_row().downtime_ms is None


def test_applying_a_batch_twice_changes_nothing_more():
    batch = [outcome("m-1", "copying"), outcome("m-2", "done")]
    services.apply_outcomes(batch)
    before = list(RequestMigration.objects.order_by("id").values())
    services.apply_outcomes(batch)
    assert list(RequestMigration.objects.order_by("id").values()) == before


def test_a_changed_migration_is_announced_once_per_batch(sent_events, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        services.apply_outcomes([outcome(state="reserving"), outcome(state="copying")])
    assert [(event.migration_id, event.state) for event in sent_events] == [("m-1", "copying")]


def test_a_migration_whose_source_died_is_closed_and_says_so():
    services.apply_outcomes([outcome("old", "copying"), outcome("done", "done")])
    patience, an_hour_on = Patience(120.0), NOW + timedelta(hours=1)
    found = [
        services.close_lost_migrations(patience=patience, now_s=now_s, now=an_hour_on)
        for now_s in (0.0, 119.0, 121.0)
    ]
    assert found == [0, 0, 1]
    row = RequestMigration.objects.get(migration_id="old")
    assert (row.state, row.reason) == ("aborted", "no word from chat-1 for 120 s")


# --------------------------------------------------------------- manual moves


@pytest.fixture
def two_instances(chat_pool):
    return [builders.instance(name, of=chat_pool) for name in ("chat-1", "chat-2")]


def ask(**changes):
    fields = {"request_id": "r-1", "source_id": "chat-1", "destination_id": "chat-2", "actor": "ann"}
    return services.request_migration(**fields | changes)


def test_a_move_that_a_person_asks_for_is_a_row_and_an_audit_entry(two_instances):
    row = ask(reason="to see it")
    assert (row.state, row.rule, row.requested_by) == ("requested", "manual", "ann")
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.object_id, entry.reason) == ("ann", "r-1", "to see it")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"destination_id": "chat-1"}, "same instance"),
        ({"source_id": "nowhere"}, "source 'nowhere' is not an instance"),
        ({"destination_id": "code-1"}, "only move within its pool"),
        ({"destination_id": "chat-3"}, "chat-3 is draining, not ready"),
    ],
)
def test_a_move_that_cannot_be_says_why(two_instances, chat_pool, changes, sentence):
    builders.instance("code-1", of=builders.pool("code"))
    builders.instance("chat-3", of=chat_pool, state="draining")
    with pytest.raises(MoveError, match=sentence):
        ask(**changes)
    assert not RequestMigration.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_request_is_moved_by_one_migration_at_a_time(two_instances):
    ask()
    with pytest.raises(MoveError, match="being moved already"):
        ask()
    RequestMigration.objects.update(state="done")
    ask()
