from __future__ import annotations

import pytest

from console.dashboard import feed
from controlplane.events import schema


def move(**changes):
    fields = {
        "id": "m-1",
        "request_id": "r-1",
        "source": "a",
        "destination": "b",
        "state": "aborted",
        "reason": "",
        "tokens_at_start": None,
        "downtime_ms": None,
        "ended_at": 2.0,
    }
    return fields | changes


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("finished", "the request finished first"),
        ("preempted", "it was preempted at the source"),
        ("no_room", "no memory at the destination"),
        ("no_slot", "no free migration slot at the destination"),
        ("draining", "the destination is draining"),
        ("timeout in stage 0", "no answer in time"),
        ("something new", "something new"),
        ("", "no reason given"),
    ],
)
def test_why_a_move_stopped_is_said_in_words(reason, words):
    line = feed.migration_line(None, move(reason=reason))
    assert line == feed.Line("stopped", f"r-1 a → b stopped: {words}", "/migrations/m-1")


def test_an_ended_move_is_not_told_twice():
    assert feed.migration_line(move(), move()) is None


def agent(**changes):
    return {"id": "a", "state": "ready", "incarnation": "x", "preemptions_total": 3} | changes


@pytest.mark.parametrize(
    ("after", "kind", "text"),
    [
        (agent(preemptions_total=4), "risk", "a preempted 1 request"),
        (agent(preemptions_total=6), "risk", "a preempted 3 requests"),
        (agent(state="stopping"), "note", "a is stopping, was ready"),
        (agent(incarnation="y", preemptions_total=0), "note", "a came back as a new engine process"),
    ],
)
def test_what_changes_on_an_instance_is_told(after, kind, text):
    assert feed.instance_line(agent(), after) == feed.Line(kind, text, "/instances/a")


def test_an_instance_that_goes_on_as_it_was_is_not_told():
    assert feed.instance_line(agent(), agent()) is None
    assert feed.instance_line(None, agent()) is None


def test_a_person_is_named_and_the_system_is_not():
    def line(actor):
        event = schema.InstanceChanged(at_s=1.0, instance_id="a", state="draining", actor=actor)
        return feed.event_line(event).text

    assert line("olga") == "a draining by olga"
    assert line("system:fleet") == "a draining"


def test_nobody_leading_is_a_risk():
    event = schema.LoopChanged(at_s=1.0, leader="", lease_epoch=3)
    assert feed.event_line(event).kind == "risk"
