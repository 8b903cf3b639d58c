"""The count of double moves itself: it tells a second move of a request from the next one."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from engine_agents.messages import MigrationOutcome
from tests.controlplane.builders import outcome
from tests.faults.control_plane import double_moves
from tests.faults.soak import Found


def moves(*steps: str) -> list[MigrationOutcome]:
    """``m1:r1:copying`` …"""
    return [
        outcome(name, state, request_id=request) for name, request, state in (s.split(":") for s in steps)
    ]


@pytest.mark.parametrize(
    ("steps", "doubles"),
    [
        ((), 0),
        (("m1:r1:reserving", "m1:r1:copying", "m1:r1:done"), 0),
        (("m1:r1:reserving", "m1:r1:aborted", "m2:r1:reserving", "m2:r1:done"), 0),
        (("m1:r1:reserving", "m2:r2:reserving", "m1:r1:done", "m2:r2:done"), 0),
        (("m1:r1:reserving", "m2:r1:reserving", "m1:r1:done", "m2:r1:done"), 1),
        (("m1:r1:reserving", "m1:r1:done", "m1:r1:done"), 1),
    ],
)
def test_double_moves_are_counted(steps, doubles):
    assert double_moves(moves(*steps)) == doubles


def test_what_a_soak_found_can_be_written_down():
    found = Found(faults=Counter(redis_is_killed=2))
    assert json.loads(json.dumps(found.told()))["faults"] == {"redis_is_killed": 2}


def test_it_is_written_whole_while_the_soak_goes_on_and_when_it_breaks(tmp_path):
    path, found = tmp_path / "soak.json", Found(requests=7)
    found.write(path)
    assert json.loads(path.read_text())["ended"] == "not yet"
    found.ended = "broken: KeyError: 'x'"
    found.write(path)
    told = json.loads(path.read_text())
    assert (told["good"], told["requests"]) == (False, 7)
    assert [each.name for each in tmp_path.iterdir()] == ["soak.json"]


@pytest.mark.parametrize("name", Found.MUST_BE_ZERO)
def test_a_soak_with_any_damage_is_not_good(name):
    assert Found().good()
    assert not Found(**{name: 1}).good()
