from __future__ import annotations

from controlplane.fleet import watching
from controlplane.fleet.agents import FakeAgentClient
from controlplane.rebalancing.commands import Commander
from engine_agents.messages import RequestInfo

INFO = RequestInfo(
    engine_id="r-1#1",
    request_id="r-1",
    slo_class="standard",
    tenant="demo",
    state="running",
    prompt_tokens=5,
    output_tokens=1,
    blocks=1,
    arrived_at_s=0.0,
)


def watched(client, wall_s: float) -> list[str]:
    pipeline = client.pipeline()
    watching.read_watched_in(pipeline, wall_s=wall_s)
    return watching.names(pipeline.execute()[0])


def show(client, requests, wall_s: float) -> None:
    pipeline = client.pipeline()
    watching.show_in(pipeline, requests, wall_s=wall_s)
    pipeline.execute()


def test_a_look_is_answered_once_the_detail_was_fetched(live_redis):
    assert watching.look_at(["chat-1"], wall_s=100.0) == {"chat-1": None}
    assert watched(live_redis, 100.5) == ["chat-1"]
    show(live_redis, {"chat-1": [INFO], "chat-2": []}, 100.5)
    assert watching.look_at(["chat-1", "chat-2"], wall_s=101.0) == {"chat-1": [INFO], "chat-2": []}


def test_a_look_that_is_not_renewed_ends(live_redis):
    watching.look_at(["chat-1"], wall_s=100.0)
    assert watched(live_redis, 100.0 + watching.LOOK_S + 0.1) == []


def test_looking_at_nothing_needs_no_redis():
    assert watching.look_at([], wall_s=0.0) == {}


def test_detail_is_fetched_once_a_second_from_those_that_answer():
    agents = FakeAgentClient()
    agents.live_requests["chat-1"] = [INFO]
    agents.unreachable.add("chat-2")
    commander = Commander(agents, timeout_s=1.0)
    assert commander.look(["chat-1", "chat-2"], now_s=10.0) == {"chat-1": [INFO]}
    assert commander.look(["chat-1"], now_s=10.2) == {}
    assert commander.look(["chat-1"], now_s=11.0) == {"chat-1": [INFO]}
    assert commander.look([], now_s=20.0) == {}
