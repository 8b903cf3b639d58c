"""Engines that are gone: nobody is left, somebody returns, an engine fails, a host is cut off."""

from __future__ import annotations

import contextlib
import time

import httpx
import pytest

from controlplane.gateway import live_requests
from tests.faults.agents import wait_until
from tests.faults.load import KEY, SHAPES, Ask
from tests.faults.matrix import on_real_engines
from tests.faults.relay import Way
from tests.faults.scene import Scene
from tests.faults.trials import Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines

DEADLINE_S = 2.0
REFUSED_WITHIN_S = 15.0
"""One second is promised; the rest is for a busy machine."""


def kill_all(scene: Scene) -> None:
    site = scene.site
    scene.somewhere()
    scene.no_new_streams()
    wait_until(lambda: all(answer.count for answer in scene.answers), "every stream to have begun")
    scene.touched |= {entry.request_id for entry in site.entries()}
    scene.struck()
    for agent in site.procs.values():
        if agent.alive():
            agent.kill()
    site.wait_for(lambda: not site.gateway.links.usable())


def test_no_engine_left_ends_in_a_typed_error_and_keeps_what_was_streamed(
    stage: Stage, matrix, seed: int, monkeypatch
) -> None:
    monkeypatch.setattr(live_requests, "RECOVERY_LIMIT_EMPTY_S", DEADLINE_S)
    with stage.trial(matrix, 26, "all engines gone beyond the deadline", seed) as scene:
        kill_all(scene)
        scene.trial.note(refused_ms=refused_ms(scene.site.url))
        wait_until(lambda: all(answer.done for answer in scene.answers), "the end of every stream")
        cut_short = [answer for answer in scene.answers if answer.error]
        scene.expected_errors = len(cut_short)
        assert cut_short
        for answer in cut_short:
            assert answer.error is not None
            assert answer.error["type"] and "instance" in answer.error["message"], answer.error
            assert answer.error["code"] == httpx.codes.SERVICE_UNAVAILABLE
            assert answer.count > 0
    stage.site.cast(2, scene.rng)


def refused_ms(url: str) -> float:
    """How soon a new request is told that nobody serves it, and when to come again."""
    began_s = time.monotonic()
    body = {**Ask(SHAPES[0]).body, "stream": False, "stream_options": None}
    headers = {"Authorization": f"Bearer {KEY}"}
    reply = httpx.post(f"{url}/v1/completions", json=body, headers=headers, timeout=60)
    waited_s = time.monotonic() - began_s
    assert reply.status_code == httpx.codes.SERVICE_UNAVAILABLE, reply.text
    assert int(reply.headers["retry-after"]) >= 1 and reply.json()["error"]["message"]
    assert waited_s < REFUSED_WITHIN_S
    return round(1e3 * waited_s)


@on_real_engines
def test_an_engine_that_returns_before_the_deadline_goes_on_by_itself(
    stage: Stage, matrix, seed: int, monkeypatch
) -> None:
    monkeypatch.setattr(live_requests, "RECOVERY_LIMIT_EMPTY_S", 90.0)
    with stage.trial(matrix, 26, "all engines gone, one returns", seed) as scene:
        kill_all(scene)
        scene.site.start(scene.source)


@pytest.mark.long
def test_an_engine_whose_steps_fail_is_replaced(stage: Stage, matrix, seed: int) -> None:
    with stage.trial(matrix, 23, "engine fails in every step", seed) as scene:
        scene.somewhere()
        scene.struck()
        scene.agent("source").arm("engine.step:raise")


@pytest.mark.long
def test_a_host_that_is_cut_off_without_a_word(stage: Stage, matrix, seed: int) -> None:
    """Its gateway hears nothing and recovers; it hears no gateway and gives everything back."""
    with stage.trial(matrix, 8, "gateway and agent cannot hear each other", seed) as scene:
        site, agent = scene.site, scene.agent("source")
        own = agent.ask("describe")["data_endpoint"]
        relay = site.relay_to(own)
        reroute(scene, relay.endpoint)
        fill(scene)
        relay.weather.silent = frozenset(Way)
        scene.struck()
        site.wait_for(lambda: scene.source not in site.gateway.links.usable())
        wait_until(lambda: agent.ask("load")["live"] == 0, "the agent to give up its requests")
        reroute(scene, own)


def fill(scene: Scene) -> None:
    """Rerouting broke the link, so the source has lost its requests: let it have some again."""
    site = scene.site
    there = [entry for entry in site.entries() if entry.owner_id == scene.destination]
    for entry in there[:4]:
        with contextlib.suppress(ValueError):
            site.outcome(site.command(entry, scene.destination, scene.source))
            scene.touched.add(entry.request_id)


def reroute(scene: Scene, endpoint: str) -> None:
    site, name = scene.site, scene.source
    scene.agent("source").ask("advertise", endpoint)

    def rerouted() -> bool:
        link = site.gateway.links._links.get(name)
        return link is not None and link.ready is not None and link.target.endpoint == endpoint

    site.wait_for(rerouted)
