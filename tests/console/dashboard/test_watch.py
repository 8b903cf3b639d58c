"""What the hub makes of what it reads: ages, silence, lost Redis, old outcomes."""

from __future__ import annotations

import pytest

from console.dashboard.watch import STALE_S
from controlplane.events.schema import TenantClassChanged
from engine_agents.messages import ClassLatency, ClassLoad, GatewayStatus
from tests.console.hub_by_hand import START_S, HubByHand, directory_of
from tests.controlplane import builders

HISTORY_ROW = {"source": "chat-1", "destination": "chat-2", "state": "done", "started_at": START_S - 300}


def ready(name: str = "main-1", seq: int = 1, **changes):
    return builders.status(name, pool="main", seq=seq, reported_at_s=START_S, **changes)


def instance(by_hand: HubByHand, name: str = "main-1"):
    return by_hand.state.get("instances", name)


def lines(by_hand: HubByHand) -> list[str]:
    return [event["text"] for event in by_hand.state.events]


async def test_an_instance_that_never_reported_has_no_numbers():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    shown = instance(by_hand)
    assert shown["heard_at"] is None
    assert {shown[name] for name in ("used_blocks", "running", "waiting", "freeness", "step_ms")} == {None}
    assert shown["row_state"] == "ready"


async def test_a_report_brings_its_numbers_and_the_freeness_of_the_policy_core():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.report(ready(used_blocks=400, running=4, per_class=[ClassLoad(slo_class="batch", running=4)]))
    await by_hand.look()
    shown = instance(by_hand)
    assert (shown["used_blocks"], shown["running"], shown["freeness"]) == (400, 4, (800 - 400) * 16 / 4)


async def test_headroom_is_capacity_minus_the_target_load_of_a_class_that_runs_there():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.report(
        ready(used_blocks=100, running=1, per_class=[ClassLoad(slo_class="interactive", running=1)])
    )
    await by_hand.look()
    assert instance(by_hand)["headroom_blocks"] == 800 - 9_600 // 16


@pytest.mark.parametrize("change", [{"accepting": False}, {"state": "warming"}])
async def test_what_is_not_serving_has_no_freeness(change):
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.report(ready(**change))
    await by_hand.look()
    assert instance(by_hand)["freeness"] is None


async def test_the_age_counts_from_the_last_new_report_whatever_the_agents_clock_says():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.report(ready(seq=1))
    await by_hand.look()
    by_hand.report(ready(seq=2))
    await by_hand.look(after_s=5)
    heard = instance(by_hand)["heard_at"]
    assert heard == by_hand.now
    await by_hand.look(after_s=5)
    assert instance(by_hand)["heard_at"] == heard


async def test_the_last_words_of_a_dead_agent_are_not_taken_for_news():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.now = START_S + 300
    by_hand.report(ready())
    await by_hand.look()
    assert by_hand.now - instance(by_hand)["heard_at"] > 299


async def test_silence_is_told_once_and_again_after_a_return():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.report(ready(seq=1))
    await by_hand.look()
    for _ in range(4):
        await by_hand.look(after_s=STALE_S)
    assert sum("has not reported" in line for line in lines(by_hand)) == 1
    by_hand.report(ready(seq=2))
    await by_hand.look()
    await by_hand.look(after_s=STALE_S + 1)
    assert sum("has not reported" in line for line in lines(by_hand)) == 2


async def test_a_lost_redis_is_said_and_the_last_values_stay():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.report(ready(used_blocks=7))
    await by_hand.look()
    by_hand.source.away = True
    await by_hand.look()
    degraded = by_hand.state.singles["degraded"]["redis"]
    assert degraded["attempts"] == 1
    assert degraded["next_try_at"] > by_hand.now
    assert by_hand.source.closed == 1
    assert instance(by_hand)["used_blocks"] == 7
    since = degraded["since"]
    await by_hand.look(after_s=30)
    assert by_hand.state.singles["degraded"]["redis"]["since"] == since
    by_hand.source.away = False
    await by_hand.look(after_s=60)
    assert by_hand.state.singles["degraded"] == {}
    assert [line for line in lines(by_hand) if "Redis" in line][-1] == "Redis answers again"


async def test_between_attempts_redis_is_left_alone():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.source.away = True
    for _ in range(3):
        await by_hand.look()
    assert by_hand.state.singles["degraded"]["redis"]["attempts"] == 1


async def test_an_instance_stopped_on_purpose_disappears_and_its_last_report_does_not_bring_it_back():
    by_hand = HubByHand(directory_of(["main-1", "main-2"]))
    by_hand.report(ready("main-1"), ready("main-2"))
    await by_hand.look()
    by_hand.directory = directory_of(["main-2"], stopped=frozenset({"main-1"}))
    await by_hand.look(after_s=3)
    await by_hand.look(after_s=3)
    assert instance(by_hand) is None
    assert instance(by_hand, "main-2") is not None


async def test_a_move_is_told_when_it_starts_and_when_it_ends_not_for_its_stages():
    by_hand = HubByHand()
    for state, at in (("reserving", 0.0), ("copying", 0.1), ("freezing", 0.2), ("done", 0.3)):
        by_hand.source.outcomes.append(builders.outcome(state=state, at_s=START_S + at, downtime_ms=23.4))
        await by_hand.look()
    assert lines(by_hand) == ["r-1 moves chat-1 → chat-2", "r-1 moved chat-1 → chat-2, 23 ms downtime"]
    shown = by_hand.state.get("migrations", "m-1")
    assert (shown["started_at"], shown["ended_at"], shown["downtime_ms"]) == (START_S, START_S + 0.3, 23.4)


async def test_moves_from_before_the_console_started_are_told_once_each_and_in_full():
    old = [
        builders.outcome(state=state, at_s=START_S - 300 + at, downtime_ms=23.4)
        for at, state in enumerate(("reserving", "copying", "done"))
    ]
    row = {**HISTORY_ROW, "id": "m-1", "ended_at": START_S - 298}
    by_hand = HubByHand(directory_of([], migrations=[row, {**row, "id": "m-older"}]))
    by_hand.source.outcomes.extend(old)
    await by_hand.look()
    assert lines(by_hand) == ["r-1 moves chat-1 → chat-2", "r-1 moved chat-1 → chat-2, 23 ms downtime"]
    await by_hand.look(after_s=6)
    assert set(by_hand.state.collections["migrations"].items) == {"m-1", "m-older"}


async def test_a_running_move_has_no_downtime_yet():
    by_hand = HubByHand()
    by_hand.source.outcomes.append(builders.outcome(state="copying", at_s=START_S))
    await by_hand.look()
    assert by_hand.state.get("migrations", "m-1")["downtime_ms"] is None


async def test_a_final_outcome_stays_final():
    by_hand = HubByHand()
    by_hand.source.outcomes.append(builders.outcome(state="done", at_s=START_S))
    await by_hand.look()
    by_hand.source.outcomes.append(builders.outcome(state="copying", at_s=START_S + 1))
    await by_hand.look()
    assert by_hand.state.get("migrations", "m-1")["state"] == "done"


async def test_a_move_without_news_is_no_longer_shown_as_running():
    by_hand = HubByHand()
    by_hand.source.outcomes.append(builders.outcome(state="copying", at_s=START_S))
    await by_hand.look()
    await by_hand.look(after_s=61)
    assert by_hand.state.get("migrations", "m-1") is None


def gateway(name: str, at_s: float, **latency):
    return GatewayStatus(
        gateway_id=name,
        incarnation="a",
        pool="main",
        url="http://x",
        reported_at_s=at_s,
        open_streams=1,
        queued=0,
        per_class=[ClassLatency(slo_class="standard", open=1, **latency)],
    )


def standard(by_hand: HubByHand):
    return by_hand.state.get("classes", "standard")


async def test_classes_take_the_worst_percentile_and_weigh_shares_by_requests():
    by_hand = HubByHand()
    by_hand.report_gateway(gateway("g-1", START_S, requests=90, ttft_p99_ms=100.0, ttft_attained=1.0))
    by_hand.report_gateway(gateway("g-2", START_S, requests=10, ttft_p99_ms=900.0, ttft_attained=0.5))
    await by_hand.look()
    assert standard(by_hand)["ttft_p99_ms"] == 900.0
    assert standard(by_hand)["ttft_attained"] == 0.95


async def test_a_class_of_which_nothing_finished_has_no_figures():
    by_hand = HubByHand()
    by_hand.report_gateway(gateway("g-1", START_S, requests=0))
    await by_hand.look()
    assert standard(by_hand)["ttft_attained"] is None
    assert standard(by_hand)["ttft_p99_ms"] is None


async def test_a_gateway_that_fell_silent_leaves_with_its_figures():
    by_hand = HubByHand()
    by_hand.report_gateway(gateway("g-1", START_S, requests=9, ttft_p99_ms=100.0))
    await by_hand.look()
    await by_hand.look(after_s=61)
    await by_hand.look(after_s=3)
    assert by_hand.state.get("gateways", "g-1") is None
    assert standard(by_hand)["ttft_p99_ms"] is None


async def test_what_people_do_is_told():
    by_hand = HubByHand()
    by_hand.source.events.append(
        TenantClassChanged(at_s=START_S, tenant="acme", slo_class="batch", previous="standard", actor="olga")
    )
    await by_hand.look()
    assert lines(by_hand) == ["acme is batch now, was standard; by olga"]


async def test_the_history_keeps_a_gap_where_an_instance_was_silent():
    by_hand = HubByHand(directory_of(["main-1"]))
    by_hand.report(ready(used_blocks=400))
    await by_hand.look(after_s=2)
    await by_hand.look(after_s=STALE_S + 2)
    points = by_hand.hub.watcher.history.points("instance", "main-1")
    assert [point[1] for point in points] == [0.5, None]
