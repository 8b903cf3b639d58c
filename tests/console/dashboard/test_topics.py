"""Per-request detail goes to those who subscribed to it, and only while they do."""

from __future__ import annotations

from console.dashboard.consumer import parse
from controlplane.events.schema import InstanceChanged
from tests.console.fake_fleet import FakeFleet
from tests.console.hub_by_hand import START_S, HubByHand, directory_of, frame, frame_if_any

REQUESTS = frozenset({"requests"})


async def fleet_with_detail() -> HubByHand:
    by_hand = HubByHand(directory_of(["main-1"]))
    fleet = FakeFleet(instances=1, now=START_S)
    statuses, _ = fleet.step(START_S)
    by_hand.report(*statuses)
    by_hand.source.detail = {"main-1": fleet.requests("main-1")}
    await by_hand.look()
    return by_hand


async def test_a_subscriber_gets_the_requests_and_another_client_does_not():
    by_hand = await fleet_with_detail()
    plain, subscriber = by_hand.client(), by_hand.client()
    await frame(plain)
    subscriber.subscribe(REQUESTS)
    await by_hand.look()
    shown = (await frame(subscriber))["state"]["residents"][0]
    assert shown["id"] == "main-1"
    blocks = [request["blocks"] for request in shown["requests"]]
    assert blocks
    assert blocks == sorted(blocks, reverse=True)
    later = frame_if_any(plain)
    assert later is None or "residents" not in later


async def test_a_new_topic_begins_with_a_snapshot_that_names_it():
    by_hand = await fleet_with_detail()
    client = by_hand.client()
    assert (await frame(client))["topics"] == []
    client.subscribe(REQUESTS)
    again = await frame(client)
    assert (again["type"], again["topics"]) == ("snapshot", ["requests"])


async def test_detail_is_forgotten_once_nobody_subscribes():
    by_hand = await fleet_with_detail()
    client = by_hand.client()
    client.subscribe(REQUESTS)
    await by_hand.look()
    assert by_hand.state.get("residents", "main-1")
    client.subscribe(frozenset())
    await by_hand.look()
    assert by_hand.state.get("residents", "main-1") is None


async def test_events_of_the_control_plane_reach_the_page_as_they_came():
    by_hand = await fleet_with_detail()
    client = by_hand.client()
    await frame(client)
    event = InstanceChanged(at_s=by_hand.now, instance_id="main-1", state="draining", actor="olga")
    by_hand.source.events.append(event)
    await by_hand.look()
    assert [item["event"] for item in (await frame(client))["news"]] == [event.to_dict()]


def test_only_known_topics_are_understood():
    assert parse('{"type": "subscribe", "topics": ["requests"]}')
    for topics in ('["tokens"]', '"requests"', "[1]", "[[]]", "null"):
        assert parse(f'{{"type": "subscribe", "topics": {topics}}}') is None
