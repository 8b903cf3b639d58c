"""The hand-over's tables, walked on both sides at once through every order of events.

The property: in the end exactly one dispatch runs the request, and it is the
one whose tokens the gateway accepts; nothing stays reserved; nobody is stuck.
"""

from __future__ import annotations

import itertools

import pytest

from engine_agents.migration.handshake import (
    DESTINATION_TABLE,
    FINAL,
    SOURCE_TABLE,
    Destination,
    DestinationEvent,
    IllegalTransitionError,
    MoveState,
    Source,
    SourceAction,
    SourceEvent,
)
from tests.engine_agents.migration.handshake_world import OURS, OVER, THEIRS, World, successors

HARMLESS = (MoveState.IDLE, *FINAL)


def walk(start: World) -> tuple[dict[World, tuple[World | None, str]], list[World]]:
    """All worlds reachable from ``start``, with how each was reached, and those in which nothing happens."""
    reached: dict[World, tuple[World | None, str]] = {start: (None, "")}
    ends = []
    todo = [start]
    while todo:
        world = todo.pop()
        steps = [(label, after) for label, after in successors(world) if after != world]
        if not [after for _, after in steps if after.faults == world.faults]:
            ends.append(world)
        for label, after in steps:
            if after not in reached:
                reached[after] = (world, label)
                todo.append(after)
    return reached, ends


def story(reached: dict[World, tuple[World | None, str]], world: World) -> str:
    lines = [str(world)]
    while True:
        before, label = reached[world]
        if before is None:
            return "\n".join(reversed(lines))
        lines.append(label)
        world = before


def wrong_end(world: World) -> str:
    """What is wrong with a world in which nothing happens any more; empty if nothing is."""
    source, destination = world.source[0], world.destination[0]
    if world.source_alive and (source not in HARMLESS or world.here == "frozen"):
        return "the source is stuck"
    if world.destination_alive and (destination not in HARMLESS or world.reserved):
        return "the destination is stuck or leaks a reservation"
    wanted = set() if world.owner == OVER else {world.owner}
    return "" if world.runners() == wanted else f"{world.runners()} run it, {wanted} should"


def wrong_on_the_way(world: World) -> str:
    """Both may run for a moment only when the gateway already rejects the destination's tokens."""
    both = {OURS, THEIRS} <= world.runners()
    return "both run with accepted tokens" if both and not world.revoked else ""


@pytest.mark.parametrize("faults", [0, 1, 2, 3, pytest.param(4, marks=pytest.mark.long)])
def test_one_owner_no_leak_nobody_stuck(faults):
    """With four faults it visits a few hundred thousand worlds: a quarter of a minute."""
    reached, ends = walk(World(faults=faults))
    assert ends
    for world in ends:
        assert not wrong_end(world), f"{wrong_end(world)}\n{story(reached, world)}"
    for world in reached:
        assert not wrong_on_the_way(world), story(reached, world)


def test_the_walk_always_leads_somewhere():
    """From every reachable world some end can still be reached: no livelock."""
    reached, ends = walk(World(faults=1))
    sources: dict[World, list[World]] = {}
    for world in reached:
        for _, after in successors(world):
            sources.setdefault(after, []).append(world)
    alive, todo = set(ends), list(ends)
    while todo:
        for before in sources.get(todo.pop(), []):
            if before not in alive:
                alive.add(before)
                todo.append(before)
    assert alive == set(reached)


def test_without_faults_it_moves_or_stays():
    _, ends = walk(World())
    assert {world.owner for world in ends} == {OURS, THEIRS}


def test_every_transition_of_both_tables_is_exercised():
    """A line of a table that no walk uses would be untested, or dead."""
    reached, _ = walk(World(faults=2))
    seen = {(world.source[0], after.source[0]) for world in reached for _, after in successors(world)}
    listed = {(state, to) for state, row in SOURCE_TABLE.items() for to, _ in row.values() if to is not state}
    # FREEZING is passed through within one step of this world: freezing is the engine's, and answers at once.
    assert {pair for pair in listed if MoveState.FREEZING not in pair} <= seen


def test_a_naive_source_that_resumes_on_a_lost_acknowledgement_is_caught(monkeypatch):
    """The negative control: treat doubt as an abort, as the first Llumnix did."""
    naive = dict(SOURCE_TABLE[MoveState.COMMITTED])
    naive[SourceEvent.TIMED_OUT] = (MoveState.ABORTED, (SourceAction.THAW,))
    monkeypatch.setitem(SOURCE_TABLE, MoveState.COMMITTED, naive)
    reached, ends = walk(World(faults=1))
    assert any(map(wrong_on_the_way, reached)) or any(map(wrong_end, ends))


@pytest.mark.parametrize(("machine", "table", "events"), [
    (Source, SOURCE_TABLE, SourceEvent),
    (Destination, DESTINATION_TABLE, DestinationEvent),
])  # fmt: skip
def test_illegal_transitions_raise_and_change_nothing(machine, table, events):
    illegal = [(s, e) for s, e in itertools.product(MoveState, events) if e not in table.get(s, {})]
    assert illegal
    for state, event in illegal:
        one = machine()
        one.state = state
        with pytest.raises(IllegalTransitionError):
            one.handle(event)
        assert (one.state, one.stage) == (state, -1)


def test_messages_of_another_stage_are_refused():
    one = Destination()
    one.handle(DestinationEvent.RESERVE, 0)
    one.handle(DestinationEvent.HELD)
    for event, stage in [
        (DestinationEvent.RESERVE, 0),
        (DestinationEvent.RESERVE, 2),
        (DestinationEvent.CHUNK, 1),
    ]:
        with pytest.raises(IllegalTransitionError):
            one.handle(event, stage)
    assert (one.state, one.stage) == (MoveState.COPYING, 0)
