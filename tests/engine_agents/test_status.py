"""What an agent tells Redis, how often, and that a Redis that is away disturbs nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from engine_agents.engines.port import EngineLoad
from engine_agents.messages import InstanceStatus, MigrateOut, MigrationOutcome
from engine_agents.status import PENDING_OUTCOMES, RateWindow, StatusReporter, room_tokens
from tests.engine_agents.harness import eventually, gateway_to, running_agent

PROMPT = list(range(100))


def load(**changes: Any) -> EngineLoad:
    fields: dict[str, Any] = dict.fromkeys(EngineLoad.__dataclass_fields__, 0) | {"per_class": ()}
    return EngineLoad(**(fields | changes))


def reported(server: Any) -> bool:
    return bool(server.client().hexists("llumdeck:status", "a"))


def read_status(server: Any) -> InstanceStatus:
    return msgspec.msgpack.decode(server.client().hget("llumdeck:status", "a"), type=InstanceStatus)


def read_outcomes(server: Any) -> list[MigrationOutcome]:
    entries = server.client().xrange("llumdeck:migrations")
    return [msgspec.msgpack.decode(entry[b"outcome"], type=MigrationOutcome) for _, entry in entries]


def outcome(number: int) -> MigrationOutcome:
    return MigrationOutcome(
        migration_id=f"m{number}",
        request_id="r",
        source_instance_id="a",
        destination_instance_id="b",
        rule="manual",
        why="",
        slo_class="standard",
        tenant="demo",
        state="done",
    )


async def test_a_report_tells_where_the_agent_is_and_what_it_does(redis_server):
    async with running_agent("a", redis_url=redis_server.url) as agent, gateway_to(agent) as gateway:
        await gateway.add("a", "r", PROMPT, max_tokens=3000, slo_class="interactive")
        await gateway.until_tokens("r", 30)
        await eventually(lambda: reported(redis_server) and read_status(redis_server).running == 1, "load")
        status = read_status(redis_server)
        assert (status.state, status.engine, status.accepting) == ("ready", "simulated", True)
        assert (status.data_endpoint, status.peer_endpoint) == (agent.data_endpoint, agent.peer_endpoint)
        assert status.incarnation == agent.incarnation
        assert status.seen == {"g1": 1}
        assert status.per_class[0].slo_class == "interactive"
        assert 0 < status.used_blocks < status.total_blocks
        assert status.step_ms > 0
        assert status.tokens_per_s > 0
        assert status.tokens_total > 0


async def test_sequence_numbers_grow_and_reports_come_without_load_too(redis_server):
    async with running_agent("a", redis_url=redis_server.url, status_max_interval_s=0.1):
        await eventually(lambda: reported(redis_server), "a report")
        first = read_status(redis_server).seq
        await eventually(lambda: read_status(redis_server).seq >= first + 3, "more reports")


async def test_reports_are_at_most_as_frequent_as_configured(redis_server):
    settings: dict[str, Any] = {"status_min_interval_s": 0.4, "status_max_interval_s": 30.0}
    async with (
        running_agent("a", redis_url=redis_server.url, **settings) as agent,
        gateway_to(agent) as gateway,
    ):
        before = asyncio.get_running_loop().time()
        await gateway.add("a", "r", PROMPT, max_tokens=600)
        await gateway.until_finished("r")
        elapsed_s = asyncio.get_running_loop().time() - before
        assert read_status(redis_server).seq <= elapsed_s / 0.4 + 3


async def test_the_last_report_says_that_it_stops(redis_server):
    async with running_agent("a", redis_url=redis_server.url):
        await eventually(lambda: reported(redis_server), "a report")
    status = read_status(redis_server)
    assert (status.state, status.accepting) == ("stopping", False)


async def test_a_migration_is_told_from_start_to_end(redis_server):
    both: dict[str, Any] = {"redis_url": redis_server.url}
    async with (
        running_agent("a", **both) as source,
        running_agent("b", **both) as destination,
        gateway_to(source, destination) as gateway,
    ):
        await gateway.add("a", "r", PROMPT, max_tokens=400)
        await gateway.until_tokens("r", 5)
        command = MigrateOut(
            migration_id="m",
            destination_instance_id="b",
            destination_peer_endpoint=destination.peer_endpoint,
            rule="load",
            lease_epoch=4,
            budget_tokens=10_000,
        )
        assert (await source.migrate_out(command)).accepted
        await gateway.until_finished("r")
        await eventually(lambda: read_outcomes(redis_server)[-1:], "outcomes")
        await eventually(lambda: read_outcomes(redis_server)[-1].state == "done", "the end")
        outcomes = read_outcomes(redis_server)
        assert [one.state for one in outcomes][:1] == ["reserving"]
        assert [len(one.stages) for one in outcomes] == sorted(len(one.stages) for one in outcomes)
        await eventually(lambda: read_status(redis_server).lease_epoch == 4, "the epoch to be reported")


async def test_redis_away_disturbs_nobody_and_nothing_is_lost_when_it_returns(redis_server):
    settings: dict[str, Any] = {"redis_url": redis_server.url, "status_max_interval_s": 0.1}
    async with running_agent("a", **settings) as agent, gateway_to(agent) as gateway:
        await eventually(lambda: reported(redis_server), "a report")
        redis_server.stop()
        for number in range(3):
            agent.report(outcome(number))
        await gateway.add("a", "r", PROMPT, max_tokens=50)
        await gateway.until_finished("r")
        await eventually(lambda: agent._reporter.failures >= 2, "failures to be counted")
        redis_server.start()
        await eventually(lambda: len(read_outcomes(redis_server)) == 3, "the outcomes")
        assert [one.migration_id for one in read_outcomes(redis_server)] == ["m0", "m1", "m2"]
        await eventually(lambda: reported(redis_server), "a report")


async def test_what_waits_for_redis_is_bounded():
    def never(seq: int, now_s: float) -> InstanceStatus:
        raise AssertionError("not asked for")

    reporter = StatusReporter("unix:///nowhere", "", never, min_interval_s=1, max_interval_s=1)
    for number in range(PENDING_OUTCOMES + 5):
        reporter.outcome(outcome(number))
    assert reporter.outcomes_lost == 5
    assert len(reporter._outcomes) == PENDING_OUTCOMES


def test_rates_are_those_of_the_recent_past():
    window = RateWindow()
    readings = [load(steps_total=s, step_seconds_total=s / 10, tokens_total=20 * s) for s in range(40)]
    rates = [window.rates(reading, now=index / 10) for index, reading in enumerate(readings)]
    assert (rates[0].step_ms, rates[0].tokens_per_s) == (0.0, 0.0)
    for rate in rates[1:]:
        assert abs(rate.step_ms - 100.0) < 1e-6
        assert abs(rate.tokens_per_s - 200.0) < 1e-6
    idle = [window.rates(readings[-1], now=4.0 + index) for index in range(3)]
    assert (idle[-1].step_ms, idle[-1].tokens_per_s) == (0.0, 0.0)
    assert len(window._readings) < 20


def test_room_leaves_out_what_is_reserved_and_what_waits():
    assert room_tokens(load(used_blocks=3, reserved_blocks=2, queued_blocks=1), 10, 16) == 64
    assert room_tokens(load(used_blocks=8, queued_blocks=5), 10, 16) == 0
