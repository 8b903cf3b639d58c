"""A browser that does not read: it is skipped and counted; neither the hub nor another browser waits.

The same over real sockets is measured by ``benchmarks.dashboard`` (``stalled_ratio``).
"""

from __future__ import annotations

import asyncio
import json

from console.dashboard.hub import UNACKNOWLEDGED_FRAMES
from tests.console.fake_fleet import FakeFleet
from tests.console.hub_by_hand import START_S, HubByHand, directory_of, frame, frame_if_any

LOOKS = 200


async def looked_at(by_hand: HubByHand, fleet: FakeFleet) -> None:
    statuses, outcomes = fleet.step(by_hand.now)
    by_hand.report(*statuses)
    by_hand.source.outcomes.extend(outcomes)
    await by_hand.look()


async def test_frames_that_a_stalled_client_cannot_take_are_skipped_and_counted():
    by_hand = HubByHand(directory_of(["main-1", "main-2"]))
    fleet = FakeFleet(instances=2, now=START_S)
    stalled, lively = by_hand.client(), by_hand.client()
    taken = 0
    for _ in range(LOOKS):
        await looked_at(by_hand, fleet)
        stalled._frame_now()
        taken += frame_if_any(lively) is not None
    assert taken >= LOOKS - 2
    assert lively.skipped == 0
    assert stalled.seq == UNACKNOWLEDGED_FRAMES
    assert stalled.skipped >= LOOKS - UNACKNOWLEDGED_FRAMES - 2
    assert by_hand.hub.frames_skipped == stalled.skipped


async def test_nothing_queues_up_for_it_and_one_frame_brings_it_up_to_date():
    by_hand = HubByHand(directory_of(["main-1", "main-2"]))
    fleet = FakeFleet(instances=2, now=START_S)
    stalled, lively = by_hand.client(), by_hand.client()
    for _ in range(LOOKS):
        await looked_at(by_hand, fleet)
        stalled._frame_now()
        frame_if_any(lively)
    assert len(by_hand.hub._encoded) <= 2
    stalled.acknowledge(stalled.seq)
    caught_up = await frame(stalled)
    used = {item["id"]: item["used_blocks"] for item in caught_up["instances"] if "used_blocks" in item}
    shown = by_hand.state.collections["instances"].items
    assert used == {name: shown[name]["used_blocks"] for name in used}
    assert frame_if_any(stalled) is None


async def test_a_socket_that_is_never_read_does_not_hold_back_the_publisher():
    """The sender of one client waits inside its own task; the hub's looks go on at their pace."""
    by_hand = HubByHand(directory_of(["main-1"]))
    fleet = FakeFleet(instances=1, now=START_S)
    stalled = by_hand.client()
    blocked = asyncio.Event()

    async def send_to_a_full_socket() -> None:
        while True:
            json.loads(await stalled.next_frame())
            await blocked.wait()

    sender = asyncio.create_task(send_to_a_full_socket())
    try:
        lively = by_hand.client()
        await looked_at(by_hand, fleet)
        await frame(lively)
        for _ in range(20):
            await asyncio.wait_for(looked_at(by_hand, fleet), timeout=5)
            assert (await frame(lively))["at"] == by_hand.now
    finally:
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
