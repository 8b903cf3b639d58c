from __future__ import annotations

import threading
from datetime import timedelta

import msgspec
import pytest
from django.db import DataError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from controlplane.fleet import services as fleet
from controlplane.fleet.agents import FakeAgentClient
from controlplane.fleet.models import Instance
from controlplane.rebalancing import selectors, services
from controlplane.rebalancing.loop import LeaseLostError, LoopSettings, RebalancingLoop
from controlplane.rebalancing.models import LoopState, RebalanceRound, RequestMigration
from controlplane.rebalancing.sight import Sight
from controlplane.rebalancing.types import LoopStatus
from controlplane.scheduling.decisions import Hole
from engine_agents.messages import GatewayStatus, Waiter, encode
from tests.controlplane import builders
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def agents() -> FakeAgentClient:
    return FakeAgentClient()


@pytest.fixture
def fleet_of_two(live_redis, chat_pool, sent_events):
    """One crowded and one idle instance, with rows and reports."""
    for name in ("chat-1", "chat-2"):
        builders.instance(name, of=chat_pool)
    builders.report(live_redis, builders.crowded("chat-1"), builders.status("chat-2"))
    return live_redis


def leader(agents: FakeAgentClient, owner: str = "one") -> RebalancingLoop:
    candidate = RebalancingLoop(owner=owner, agents=agents, settings=LoopSettings())
    assert candidate.lead(now_s=100.0, now=NOW)
    return candidate


def tick(loop: RebalancingLoop, after_s: float = 0.2):
    return loop.tick(now_s=100.0 + after_s, now=NOW + timedelta(seconds=after_s))


def reported() -> LoopStatus:
    status = selectors.loop_status()
    assert status is not None
    return status


# --------------------------------------------------------------- deciding


def test_a_crowded_instance_is_told_to_hand_work_to_the_idle_one(fleet_of_two, agents):
    tick(leader(agents))
    (command,) = agents.moves
    assert command.source_id == "chat-1"
    assert command.message.destination_instance_id == "chat-2"
    assert command.message.destination_peer_endpoint == "tcp://chat-2:5556"
    row = RequestMigration.objects.get()
    assert (row.source, row.destination, row.state) == ("chat-1", "chat-2", "commanded")
    assert row.round == RebalanceRound.objects.get()


def test_recorded_rounds_decided_again_by_the_core_say_the_same(fleet_of_two, agents):
    loop = leader(agents)
    for number in range(1, 6):
        load = builders.crowded("chat-1", seq=number, used_blocks=799 - 4 * number, running=20 - number)
        builders.report(fleet_of_two, load, builders.status("chat-2", seq=number, used_blocks=number))
        tick(loop, after_s=0.2 * number)
    recorded = list(RebalanceRound.objects.all())
    assert len(recorded) >= 3
    for row in recorded:
        assert services.replay_round(row).same


def test_nothing_is_sent_to_an_agent_that_is_not_registered_and_nothing_it_says_counts(fleet_of_two, agents):
    loop = leader(agents)
    builders.report(fleet_of_two, builders.status("chat-9", lease_epoch=500))
    Instance.objects.filter(instance_id="chat-2").update(accepting=False)
    tick(loop)
    assert agents.moves == []
    assert loop.epoch < 500
    (told,) = [each for each in reported().degraded if each.part == "strangers"]
    assert "chat-9" in told.reason
    fleet_of_two.hdel("llumdeck:status", "chat-9")


def test_a_report_that_cannot_be_one_is_told_and_the_last_good_one_counts(fleet_of_two, agents):
    loop = leader(agents)
    tick(loop)
    builders.report(fleet_of_two, builders.status("chat-2", seq=9, peer_endpoint="tcp://169.254.169.254:80"))
    tick(loop, after_s=0.4)
    (told,) = [each for each in reported().degraded if each.part == "reports"]
    assert "chat-2" in told.reason
    assert all("169.254" not in move.message.destination_peer_endpoint for move in agents.moves)
    builders.report(fleet_of_two, builders.status("chat-2", seq=10))
    tick(loop, after_s=0.6)
    assert not reported().degraded


def test_a_round_that_decides_nothing_is_not_stored(live_redis, chat_pool, agents):
    builders.instance(of=chat_pool)
    builders.report(live_redis, builders.status("chat-1"))
    tick(leader(agents))
    assert not RebalanceRound.objects.exists()
    assert reported().tick == 1


def test_an_activated_policy_takes_effect_at_the_next_tick(fleet_of_two, agents, chat_pool):
    loop = leader(agents)
    assert tick(loop)[0].decisions
    version = services.create_policy_version(pool=chat_pool, config={"policy": "round_robin"}, actor="ann")
    services.activate_policy_version(version=version, actor="ann")
    (done,) = tick(loop, after_s=0.4)
    assert (done.decisions, done.policy.version) == ((), version.version)


def test_one_loop_serves_every_pool_by_its_own_policy(fleet_of_two, agents, chat_pool):
    code = builders.pool("code")
    for name in ("code-1", "code-2"):
        builders.instance(name, of=code)
    builders.report(
        fleet_of_two, builders.crowded("code-1", pool="code"), builders.status("code-2", pool="code")
    )
    version = services.create_policy_version(pool=code, config={"policy": "round_robin"}, actor="ann")
    services.activate_policy_version(version=version, actor="ann")
    loop = leader(agents)
    rounds = {each.policy.pool: each for each in tick(loop)}
    assert {pool: len(each.commands) for pool, each in rounds.items()} == {"chat": 1, "code": 0}
    services.create_policy_version(pool=code, config={"policy": "llumnix"}, actor="ann")
    services.activate_policy_version(version=code.policy_versions.first(), actor="ann")
    tick(loop, after_s=0.4)
    assert {each.source_id for each in agents.moves} == {"chat-1", "code-1"}
    for each in agents.moves:
        assert each.message.destination_instance_id[:4] == each.source_id[:4]
    assert reported().pools == 2


# --------------------------------------------------------------- holes


def waiting(client, waiting_s: float, *, tokens: int = 9_000, request_id: str = "r-long") -> None:
    """A gateway whose oldest request has waited so long."""
    report = GatewayStatus(
        gateway_id="gw-1",
        incarnation="a",
        pool="chat",
        url="",
        reported_at_s=NOW.timestamp() - 1e6,
        open_streams=1,
        queued=1,
        per_class=[],
        waiters=[
            Waiter(request_id=request_id, slo_class="standard", prompt_tokens=tokens, waiting_s=waiting_s)
        ],
        queue_tokens=tokens,
    )
    client.hset("llumdeck:gateways", "gw-1", encode(report))


@pytest.fixture
def late_binding(chat_pool):
    version = services.create_policy_version(pool=chat_pool, config={"policy": "llumdeck"}, actor="ann")
    services.activate_policy_version(version=version, actor="ann")


def test_a_long_waiter_gets_a_hole_that_gateways_are_told_of(live_redis, chat_pool, agents, late_binding):
    for name, used in (("chat-1", 500), ("chat-2", 600)):
        builders.instance(name, of=chat_pool)
        builders.report(live_redis, builders.status(name, used_blocks=used, running=5))
    heard = live_redis.pubsub(ignore_subscribe_messages=True)
    heard.subscribe("llumdeck:holes")
    heard.get_message(timeout=5.0)
    loop = leader(agents)
    waiting(live_redis, waiting_s=2.0, tokens=4_000)
    tick(loop)
    assert live_redis.get("llumdeck:holes") is None
    waiting(live_redis, waiting_s=30.0, tokens=4_000)
    (done,) = tick(loop, after_s=0.4)
    assert done.decisions[0] == Hole("r-long", "chat-1", 4_000)
    assert msgspec.msgpack.decode(live_redis.get("llumdeck:holes")) == {"chat": {"chat-1": "r-long"}}
    assert 0 < live_redis.pttl("llumdeck:holes") <= 3_000
    assert msgspec.msgpack.decode(heard.get_message(timeout=5.0)["data"]) == {"chat": {"chat-1": "r-long"}}
    live_redis.delete("llumdeck:gateways")
    tick(loop, after_s=0.6)
    assert live_redis.get("llumdeck:holes") is None
    assert msgspec.msgpack.decode(heard.get_message(timeout=5.0)["data"]) == {}
    heard.close()


def test_a_recorded_round_with_a_hole_is_decided_again_the_same(live_redis, chat_pool, agents, late_binding):
    for name, used in (("chat-1", 700), ("chat-2", 600)):
        builders.instance(name, of=chat_pool)
        builders.report(live_redis, builders.status(name, used_blocks=used, running=5))
    loop = leader(agents)
    waiting(live_redis, waiting_s=30.0, tokens=4_000)
    for number in range(3):
        tick(loop, after_s=0.2 * number)
    rows = list(RebalanceRound.objects.all())
    assert any(each["type"] == "Hole" for row in rows for each in row.decisions)
    assert all(services.replay_round(row).same for row in rows)


def test_queries_of_a_tick_do_not_grow_with_the_fleet(live_redis, chat_pool, agents, sent_events):
    loop = leader(agents)
    tick(loop)
    counts = []
    for size in (4, 40):
        names = [f"chat-{number}" for number in range(size)]
        Instance.objects.all().delete()
        for number, name in enumerate(names):
            builders.instance(name, of=chat_pool)
            make = builders.crowded if number % 2 else builders.status
            builders.report(live_redis, make(name, seq=size))
        with CaptureQueriesContext(connection) as queries:
            rounds = tick(loop, after_s=1 + size / 10)
        assert len(rounds[0].commands) == size // 2
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --------------------------------------------------------------- leading


def test_a_second_candidate_does_not_lead(live_redis, agents):
    leader(agents)
    second = RebalancingLoop(owner="two", agents=agents, settings=LoopSettings())
    assert not second.lead(now_s=100.0, now=NOW)


def test_a_paused_leader_ends_and_its_late_commands_are_refused(fleet_of_two, agents):
    paused = leader(agents, "one")
    tick(paused)
    fleet_of_two.delete("llumdeck:loop:lease")
    follower = leader(agents, "two")
    tick(follower)
    assert follower.epoch == paused.epoch + 1
    with pytest.raises(LeaseLostError):
        tick(paused)

    moves_before = len(agents.moves)
    late = paused._plan(Sight(paused._eyes.reader.seen(101.0), [], None), NOW)
    answers = agents.migrate_out(late[0].commands, timeout_s=1.0)
    assert [answer.accepted for answer in answers] == [False]
    assert len(agents.moves) == moves_before
    assert agents.refused_epochs == 1


def test_an_emptied_redis_cannot_set_the_epoch_back(live_redis, agents):
    epochs = []
    for name in ("one", "two", "three"):
        epochs.append(leader(agents, name).epoch)
        live_redis.flushall()
    assert epochs == sorted(set(epochs))


def test_an_emptied_database_cannot_set_the_epoch_back(live_redis, agents):
    first = leader(agents, "one")
    builders.report(live_redis, builders.status("chat-1", lease_epoch=first.epoch + 41))
    LoopState.objects.all().delete()
    live_redis.delete("llumdeck:loop:lease")
    assert leader(agents, "two").epoch == first.epoch + 42


def test_a_leader_that_meets_a_higher_epoch_goes_above_it(fleet_of_two, agents):
    loop = leader(agents)
    builders.report(fleet_of_two, builders.crowded("chat-1", seq=2, lease_epoch=500))
    tick(loop)
    assert loop.epoch == 501
    assert agents.moves[-1].message.lease_epoch == 501


# --------------------------------------------------------------- outages


def test_without_redis_a_tick_decides_nothing(fleet_of_two, agents):
    loop = leader(agents)
    fleet_of_two.flushall()
    with pytest.raises(LeaseLostError):
        tick(loop)
    assert agents.moves == []


def test_without_the_database_the_loop_decides_on_and_stores_later(fleet_of_two, agents, monkeypatch):
    loop = leader(agents)
    tick(loop)

    def broken(*args, **kwargs):
        raise OperationalError("database is locked")

    with monkeypatch.context() as locked:
        locked.setattr(services, "record_rounds", broken)
        locked.setattr(selectors, "requested_migrations", broken)
        tick(loop, after_s=0.4)
        tick(loop, after_s=0.6)
        assert [each.part for each in reported().degraded] == ["database"]
        assert RebalanceRound.objects.count() == 1
    assert len(agents.moves) == 3
    tick(loop, after_s=0.8)
    assert RebalanceRound.objects.count() == RequestMigration.objects.count() == 4
    assert reported().degraded == []


def test_what_no_database_takes_does_not_keep_the_rest_waiting(fleet_of_two, agents, monkeypatch):
    real = services.apply_outcomes

    def choosy(batch):
        if any(each.migration_id == "poison" for each in batch):
            raise DataError("value too long for type character varying(80)")
        return real(batch)

    monkeypatch.setattr(services, "apply_outcomes", choosy)
    loop = leader(agents)
    for name in ("m-1", "poison", "m-2"):
        builders.report_outcome(fleet_of_two, builders.outcome(name, "done"))
    tick(loop)
    assert {row.migration_id for row in RequestMigration.objects.filter(state="done")} == {"m-1", "m-2"}
    assert RebalanceRound.objects.count() == 1
    assert LoopState.objects.get().outcomes_cursor != "0-0"
    tick(loop, after_s=0.4)
    assert (reported().degraded, reported().rounds_forgotten) == ([], 1)


def test_an_unreachable_agent_is_listed_and_not_asked_every_tick(fleet_of_two, agents):
    agents.unreachable.add("chat-1")
    loop = leader(agents)
    tick(loop)
    tick(loop, after_s=0.3)
    assert reported().commands_refused == 1
    assert [each.part for each in reported().degraded] == ["agents"]
    agents.unreachable.clear()
    tick(loop, after_s=2.0)
    assert reported().degraded == []


def test_an_agent_that_did_not_answer_and_is_gone_is_not_listed_for_ever(fleet_of_two, agents):
    agents.unreachable.add("chat-1")
    loop = leader(agents)
    tick(loop)
    assert [each.part for each in reported().degraded] == ["agents"]
    fleet_of_two.hdel("llumdeck:status", "chat-1")
    builders.report(fleet_of_two, builders.status("chat-2", seq=2))
    tick(loop, after_s=1.0 + loop.settings.limits.dead_s)
    assert reported().degraded == []


def test_a_pool_whose_policy_fails_leaves_the_others_alone(fleet_of_two, agents, monkeypatch):
    other = builders.pool("code")
    builders.instance("code-1", of=other)
    real = services.plan_round

    def failing(policy, *args, **kwargs):
        if policy.pool == "code":
            raise ZeroDivisionError
        return real(policy, *args, **kwargs)

    monkeypatch.setattr(services, "plan_round", failing)
    loop = leader(agents)
    assert [each.policy.pool for each in tick(loop)] == ["chat"]
    assert [each.part for each in reported().degraded] == ["policy of code"]


# --------------------------------------------------------------- wishes, moves, outcomes


def test_a_drain_reaches_the_agent_and_is_repeated_until_it_reports_it(fleet_of_two, agents):
    loop = leader(agents)
    heard = {"lease_epoch": loop.epoch}
    builders.report(fleet_of_two, *(builders.status(name, seq=2, **heard) for name in ("chat-1", "chat-2")))
    fleet.drain_instance(instance=Instance.objects.get(instance_id="chat-1"), actor="ann")
    for number in range(2):
        agents.accepting.clear()
        tick(loop, after_s=0.2 * number)
        assert agents.accepting == {"chat-1": False}
    builders.report(fleet_of_two, builders.status("chat-1", seq=3, accepting=False, **heard))
    agents.accepting.clear()
    tick(loop, after_s=1.2)
    assert agents.accepting == {}
    assert Instance.objects.get(instance_id="chat-1").state == "drained"


def test_a_new_leader_makes_itself_known_so_that_idle_agents_refuse_the_old_one_too(fleet_of_two, agents):
    loop = leader(agents)
    tick(loop)
    assert agents.epochs == {"chat-1": loop.epoch, "chat-2": loop.epoch}


def test_a_draining_instance_hands_its_work_away(fleet_of_two, agents):
    builders.report(fleet_of_two, builders.status("chat-1", seq=2, running=2, used_blocks=10))
    fleet.drain_instance(instance=Instance.objects.get(instance_id="chat-1"), actor="ann")
    tick(leader(agents))
    assert [(each.source_id, each.message.rule) for each in agents.moves] == [("chat-1", "drain")]


def test_a_move_asked_for_by_a_person_is_commanded_once(fleet_of_two, agents):
    row = services.request_migration(
        request_id="r-7", source_id="chat-1", destination_id="chat-2", actor="ann"
    )
    loop = leader(agents)
    tick(loop)
    tick(loop, after_s=0.4)
    manual = [each.message for each in agents.moves if each.message.rule == "manual"]
    assert [(each.migration_id, each.request_id) for each in manual] == [(row.migration_id, "r-7")]
    row.refresh_from_db()
    assert row.state == "commanded"


def test_a_refused_move_says_why(fleet_of_two, agents):
    agents.unreachable.add("chat-1")
    row = services.request_migration(
        request_id="r-7", source_id="chat-1", destination_id="chat-2", actor="ann"
    )
    tick(leader(agents))
    row.refresh_from_db()
    assert (row.state, row.reason) == ("refused", "unreachable: does not answer")


def test_outcomes_reach_the_rows_once_even_under_a_new_leader(fleet_of_two, agents, sent_events):
    loop = leader(agents)
    tick(loop)
    migration_id = agents.moves[0].message.migration_id
    for state in ("reserving", "copying", "done"):
        builders.report_outcome(fleet_of_two, builders.outcome(migration_id, state, downtime_ms=7.5))
    tick(loop, after_s=0.4)
    row = RequestMigration.objects.get(migration_id=migration_id)
    assert (row.state, row.downtime_ms) == ("done", 7.5)
    loop.resign(now=NOW)
    sent_events.clear()
    tick(leader(agents, "two"), after_s=0.6)
    assert migration_id not in [getattr(event, "migration_id", "") for event in sent_events]


def test_the_status_key_tells_how_the_loop_does(fleet_of_two, agents):
    loop = leader(agents)
    tick(loop)
    status = reported()
    assert (status.leader, status.epoch, status.tick, status.instances) == ("one", loop.epoch, 1, 2)
    assert msgspec.json.decode(fleet_of_two.get("llumdeck:loop:status"))["degraded"] == []


# --------------------------------------------------------------- running


@pytest.mark.django_db(transaction=True)
def test_a_running_loop_ticks_and_stops_when_told(fleet_of_two, agents):
    loop = RebalancingLoop(owner="one", agents=agents, settings=LoopSettings(interval_s=0.02))

    class StopAfterThree(threading.Event):
        def is_set(self) -> bool:
            return loop.ticks >= 3

    assert loop.run(StopAfterThree()) == "stopped"
    assert loop.ticks == 3
    assert fleet_of_two.get("llumdeck:loop:lease") is None


def test_a_candidate_beside_a_leader_returns_at_once(live_redis, agents):
    leader(agents)
    second = RebalancingLoop(owner="two", agents=agents, settings=LoopSettings())
    assert second.run(threading.Event()) == "another leads"


def test_a_fleet_that_is_too_small_grows_and_what_starts_is_not_ordered_twice(
    fleet_of_two, agents, chat_pool
):
    scaling = {"enabled": True, "min_instances": 4, "interval_s": 1.0}
    version = services.create_policy_version(pool=chat_pool, config={"scaling": scaling}, actor="ann")
    services.activate_policy_version(version=version, actor="ann")
    loop = leader(agents)
    for number in range(8):
        tick(loop, after_s=0.5 * number)
    assert Instance.objects.filter(state="pending").count() == 2
