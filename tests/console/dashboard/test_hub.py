"""Slots, frames and the invariant: snapshot + deltas = a fresh snapshot."""

from __future__ import annotations

import asyncio
import json

from console.dashboard.hub import UNACKNOWLEDGED_FRAMES
from tests.console.fake_fleet import FakeFleet
from tests.console.hub_by_hand import HubByHand, apply, directory_of, frame, frame_if_any, in_order
from tests.console.live_session import RECORDING, record
from tests.controlplane import builders


def report(by_hand: HubByHand, used: int) -> None:
    by_hand.report(builders.status("main-1", pool="main", seq=used + 1, used_blocks=used))


async def test_the_first_frame_is_a_snapshot_and_the_next_ones_are_numbered_deltas():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    client = by_hand.client()
    first = await frame(client)
    assert (first["type"], first["seq"]) == ("snapshot", 1)
    report(by_hand, 5)
    await by_hand.look()
    second = await frame(client)
    assert (second["type"], second["seq"], second["at"]) == ("delta", 2, by_hand.now)
    assert [item["used_blocks"] for item in second["instances"]] == [5]


async def test_a_client_that_was_away_gets_one_merged_frame_with_the_latest_values():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    client = by_hand.client()
    await frame(client)
    for used in range(1, 30):
        report(by_hand, used)
        await by_hand.look()
    merged = await frame(client)
    assert [item["used_blocks"] for item in merged["instances"]] == [29]
    assert frame_if_any(client) is None


async def test_a_client_that_acknowledges_nothing_is_sent_no_more_and_then_the_latest():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    stalled = by_hand.client()
    for used in range(1, 50):
        report(by_hand, used)
        await by_hand.look()
        stalled._frame_now()
    assert stalled.seq == UNACKNOWLEDGED_FRAMES
    stalled.acknowledge(stalled.seq)
    assert [item["used_blocks"] for item in (await frame(stalled))["instances"]] == [49]


async def test_a_stalled_client_does_not_hold_back_another():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    stalled, lively = by_hand.client(), by_hand.client()
    await frame(lively)
    for used in range(1, 20):
        report(by_hand, used)
        await by_hand.look()
        stalled._frame_now()
        assert [item["used_blocks"] for item in (await frame(lively))["instances"]] == [used]


async def test_clients_that_are_equally_far_share_the_encoded_bytes():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    clients = [by_hand.client() for _ in range(3)]
    for client in clients:
        await frame(client)
    report(by_hand, 5)
    await by_hand.look()
    bodies = {id(by_hand.hub.delta_bytes(client._version)) for client in clients}
    assert len(bodies) == 1


async def test_frames_come_at_most_four_times_a_second_and_at_least_once():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    client = by_hand.client()
    await frame(client)
    sent = 0
    for used in range(100):
        report(by_hand, used)
        await by_hand.look(after_s=0.02)
        sent += frame_if_any(client) is not None
    assert 6 <= sent <= 10
    still = await asyncio.wait_for(_quiet_second(by_hand, client), timeout=5)
    assert still["type"] == "delta"
    assert "instances" not in still


async def _quiet_second(by_hand, client):
    await by_hand.look(after_s=0.3)
    frame_if_any(client)
    await by_hand.look(after_s=1.1)
    return await frame(client)


async def test_a_client_that_asks_again_gets_a_snapshot_with_the_next_number():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    client = by_hand.client()
    await frame(client)
    client.resync()
    again = await frame(client)
    assert (again["type"], again["seq"]) == ("snapshot", 2)


async def test_snapshot_and_deltas_make_what_a_fresh_client_is_given():
    by_hand = HubByHand(directory_of(["main-1", "main-2", "main-3"]))
    fleet = FakeFleet(instances=3, seed=5, now=by_hand.now)
    client = by_hand.client()
    state = None
    for number in range(60):
        statuses, outcomes = fleet.step(by_hand.now)
        by_hand.report(*statuses)
        by_hand.source.outcomes.extend(outcomes)
        by_hand.report_gateway(fleet.gateway(by_hand.now))
        by_hand.source.away = number in (30, 31)
        await by_hand.look()
        # Every third frame only: merged frames must keep the invariant too.
        if number % 3 == 0 and (sent := frame_if_any(client)):
            state = sent["state"] if sent["type"] == "snapshot" else apply(state, sent)
    await by_hand.look(after_s=1.1)
    state = apply(state, await frame(client))
    fresh = await frame(by_hand.client())
    assert in_order(state) == in_order(fresh["state"])


async def test_the_recorded_session_is_what_the_hub_sends():
    recorded = json.loads(RECORDING.read_text())
    assert await record() == recorded, "record it again, see live_session.py"


async def test_a_fault_in_what_was_read_does_not_end_the_hub():
    by_hand = HubByHand(directory_of(["main-1"]))

    async def broken():
        raise ValueError("not what was expected")

    by_hand.source.read, read = broken, by_hand.source.read
    client = await asyncio.wait_for(by_hand.hub.join(), timeout=5)
    by_hand.source.read = read
    report(by_hand, 3)
    await asyncio.sleep(0.6)
    assert by_hand.state.get("instances", "main-1")["used_blocks"] == 3
    by_hand.hub.leave(client)
    await by_hand.hub.stop()
