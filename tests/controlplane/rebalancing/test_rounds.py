from __future__ import annotations

import pytest

from controlplane.fleet.agents import FakeAgentClient
from controlplane.fleet.live_status import SeenStatus
from controlplane.rebalancing import selectors, services
from controlplane.rebalancing.models import RebalanceRound, RequestMigration
from engine_agents.messages import MigrateOutAnswer, PlannedMove
from tests.controlplane import builders
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def agents(chat_pool) -> FakeAgentClient:
    return FakeAgentClient()


def run(agents: FakeAgentClient, *seen: SeenStatus, tick: int = 1):
    (policy,) = selectors.pool_policies()
    return services.run_round(
        policy,
        seen,
        agents,
        classes=selectors.scheduling_class_rules(),
        epoch=7,
        tick=tick,
        now=NOW,
        timeout_s=1.0,
    )


CROWDED = SeenStatus(builders.crowded("chat-1"), 0.1)
IDLE = SeenStatus(builders.status("chat-2"), 0.1)


def test_a_round_is_kept_with_what_it_saw_said_and_heard(
    agents, sent_events, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        run(agents, CROWDED, IDLE)
    row = RebalanceRound.objects.get()
    assert (row.epoch, row.tick, row.taken_at) == (7, 1, NOW)
    assert [each["instance_id"] for each in row.snapshot["instances"]] == ["chat-1", "chat-2"]
    assert [each["type"] for each in row.decisions] == ["Migrate"]
    assert [(each["source_id"], each["accepted"]) for each in row.answers] == [("chat-1", True)]
    assert row.duration_ms > 0
    events = {type(event).__name__: event for event in sent_events}
    assert events["RoundPlanned"].summary == "chat-1 → chat-2 (load)"
    assert events["MigrationChanged"].state == "commanded"


def test_every_request_that_the_source_chose_gets_its_row(agents):
    agents.planned["chat-1"] = MigrateOutAnswer(
        accepted=True,
        planned=[
            PlannedMove(
                migration_id=f"m.{number}",
                request_id=f"r-{number}",
                slo_class="batch",
                tenant="demo",
                tokens=number,
                why="shortest",
            )
            for number in range(3)
        ],
    )
    run(agents, CROWDED, IDLE)
    rows = RequestMigration.objects.order_by("request_id")
    assert [(row.request_id, row.why, row.tokens_at_start) for row in rows] == [
        ("r-0", "shortest", 0),
        ("r-1", "shortest", 1),
        ("r-2", "shortest", 2),
    ]


def test_a_refused_command_is_kept_with_its_reason_and_moves_nothing(agents):
    agents.epochs["chat-1"] = 8
    run(agents, CROWDED, IDLE)
    (answer,) = RebalanceRound.objects.get().answers
    assert (answer["accepted"], answer["reason"]) == (False, "stale epoch 7")
    assert not RequestMigration.objects.exists()


def test_migration_ids_tell_pool_epoch_and_tick_and_never_repeat(agents):
    ids = [run(agents, CROWDED, IDLE, tick=tick).commands[0].message.migration_id for tick in (1, 2)]
    assert ids == ["chat-7-1-0", "chat-7-2-0"]


def test_a_stale_source_and_a_stale_destination_are_left_alone(agents):
    for pair in ((CROWDED._replace(age_s=60), IDLE), (CROWDED, IDLE._replace(age_s=60))):
        assert run(agents, *pair).commands == []


def test_an_outcome_that_came_before_its_round_is_kept(agents):
    services.apply_outcomes([builders.outcome("chat-7-1-0", "done")])
    run(agents, CROWDED, IDLE)
    assert RequestMigration.objects.get().state == "done"
