"""With Redis away the page still says how the classes do: the gateways are asked themselves."""

from __future__ import annotations

from controlplane.fleet.asking import AskedGateway, GatewayAnswer
from tests.console.fake_fleet import FakeFleet
from tests.console.hub_by_hand import START_S, HubByHand, directory_of


def asked(by_hand: HubByHand) -> list[AskedGateway]:
    report = FakeFleet(instances=2, now=START_S).gateway(by_hand.now)
    answer = GatewayAnswer(report=report, redis_alive=False, engines=[])
    return [
        AskedGateway("gateway-1", "http://127.0.0.1:1", answer),
        AskedGateway("gateway-2", "http://127.0.0.1:2", None, "no answer"),
    ]


async def test_gateways_that_answer_fill_the_classes_while_redis_is_away():
    by_hand = HubByHand(directory_of(["main-1"]))
    await by_hand.look()
    assert by_hand.state.get("classes", "standard")["ttft_p99_ms"] is None
    by_hand.source.away = True
    by_hand.asked = asked(by_hand)
    await by_hand.look()
    assert by_hand.state.get("classes", "standard")["ttft_p99_ms"] is not None
    away = by_hand.state.singles["degraded"]["redis"]
    assert (away["gateways"]["asked"], away["gateways"]["answered"]) == (2, 1)


async def test_they_are_asked_every_two_seconds_at_most_and_not_once_redis_answers():
    by_hand = HubByHand(directory_of(["main-1"]))
    calls = []
    by_hand.hub._ask = lambda: calls.append(by_hand.now) or []
    await by_hand.look()
    assert calls == []
    by_hand.source.away = True
    for _ in range(9):
        await by_hand.look()
    assert len(calls) == 2
    by_hand.source.away = False
    for _ in range(60):
        await by_hand.look()
    assert by_hand.state.singles["degraded"] == {}
    before = len(calls)
    for _ in range(12):
        await by_hand.look()
    assert len(calls) == before
