"""A small world around the two tables: engines, gateway, links that lose and repeat, deaths.

States are values, so that a walk can visit every one of them. Links are FIFO,
as TCP is; a message may be lost, or repeated once at the end of its queue
(that is: late). ``faults`` is the budget of such misfortunes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from engine_agents.migration.handshake import (
    Destination,
    DestinationAction,
    DestinationEvent,
    IllegalTransitionError,
    MoveState,
    Source,
    SourceAction,
    SourceEvent,
)

SOURCE, DESTINATION, GATEWAY = "source", "destination", "gateway"
OURS, THEIRS, ELSEWHERE, OVER = 1, 2, 3, 0
"""Dispatch numbers: the source's, the one granted for the destination, a recovery's, none."""
MAX_STAGE = 1

Queues = tuple[tuple[str, str, tuple[str, ...]], ...]


class World(NamedTuple):
    """``source``/``destination``: (state, stage, granted) of each machine.

    A tuple, because hundreds of thousands are made and compared.
    """

    source: tuple[MoveState, int, bool] = (MoveState.IDLE, -1, False)
    destination: tuple[MoveState, int] = (MoveState.IDLE, -1)
    here: str = "running"
    """The request at the source's engine: running, frozen, gone."""
    there: str = "absent"
    """At the destination's engine: absent, running, gone."""
    reserved: bool = False
    owner: int = OURS
    revoked: bool = False
    """The gateway will never accept the destination's number."""
    source_alive: bool = True
    destination_alive: bool = True
    queues: Queues = ()
    faults: int = 0

    def queue(self, sender: str, receiver: str) -> tuple[str, ...]:
        return next((q for s, r, q in self.queues if (s, r) == (sender, receiver)), ())

    def with_queue(self, sender: str, receiver: str, messages: tuple[str, ...]) -> World:
        others = [entry for entry in self.queues if entry[:2] != (sender, receiver)]
        kept = [*others, (sender, receiver, messages)] if messages else others
        return self._replace(queues=tuple(sorted(kept)))

    def send(self, sender: str, receiver: str, message: str) -> World:
        return self.with_queue(sender, receiver, (*self.queue(sender, receiver), message))

    def alive(self, who: str) -> bool:
        return {SOURCE: self.source_alive, DESTINATION: self.destination_alive, GATEWAY: True}[who]

    def runners(self) -> set[int]:
        """Dispatch numbers that some live engine runs."""
        runs = {ELSEWHERE} if self.owner == ELSEWHERE else set()
        if self.source_alive and self.here == "running":
            runs.add(OURS)
        if self.destination_alive and self.there == "running":
            runs.add(THEIRS)
        return runs


Step = tuple[str, World]


def successors(world: World) -> list[Step]:
    """Everything that can happen next, misfortunes included while the budget lasts."""
    steps = [step for entry in world.queues for step in _deliver(world, *entry)]
    if world.source[0] is MoveState.IDLE and world.source_alive and world.here == "running":
        steps += _source(world, SourceEvent.START, None)
    if not world.queues:
        steps += _in_the_end(world)
    if world.faults > 0:
        steps += _misfortunes(world._replace(faults=world.faults - 1))
    return steps


def _misfortunes(world: World) -> Iterator[Step]:
    for sender, receiver, (head, *rest) in world.queues:
        yield f"lose {head}", world.with_queue(sender, receiver, tuple(rest))
        yield f"repeat {head}", world.with_queue(sender, receiver, (head, *rest, head))
    if world.source_alive:
        yield "source dies", world._replace(source_alive=False, here="gone")
        yield from _source(world, SourceEvent.TIMED_OUT, None)
        yield from _source(world, SourceEvent.LINK_LOST, None)
        if world.here == "running":
            yield from _ends_here(world)
            yield from _source(world, SourceEvent.GONE, None, label="preempted")
    if world.destination_alive:
        yield "destination dies", world._replace(destination_alive=False, there="gone", reserved=False)
        yield from _destination(world, DestinationEvent.EXPIRED, None)
    if world.owner != OVER:
        yield "client leaves", _over(world)


def _ends_here(world: World) -> Iterator[Step]:
    """The request finishes at the source: the gateway hears of it, and so does the session."""
    ended = world._replace(here="gone").send(SOURCE, GATEWAY, "finished")
    moved = list(_source(ended, SourceEvent.GONE, None, label="finished"))
    yield from moved or [("finished", ended)]


def _in_the_end(world: World) -> Iterator[Step]:
    """No message is under way: time-outs, and what the gateway notices by itself."""
    if world.source_alive:
        yield from _source(world, SourceEvent.TIMED_OUT, None)
    if world.destination_alive:
        yield from _destination(world, DestinationEvent.EXPIRED, None)
        if world.there == "running" and world.owner != THEIRS:
            yield "destination's tokens", world.send(DESTINATION, GATEWAY, "adopted")
    if world.source_alive and world.here != "gone" and world.owner not in (OURS, THEIRS):
        yield "the gateway repeats its abort", world.send(GATEWAY, SOURCE, "abort")
    if world.owner == OURS and world.here == "gone":
        # Its process died, or its last output was lost and heartbeats tell how many steps were sent.
        yield "recovery", world._replace(owner=ELSEWHERE, revoked=True)
    if world.owner == THEIRS and not world.destination_alive:
        yield "recovery", world._replace(owner=ELSEWHERE)


def _over(world: World) -> World:
    ended = world._replace(owner=OVER, revoked=True)
    return ended.send(GATEWAY, SOURCE, "abort").send(GATEWAY, DESTINATION, "abort")


def _deliver(world: World, sender: str, receiver: str, messages: tuple[str, ...]) -> Iterator[Step]:
    message, rest = messages[0], messages[1:]
    left = world.with_queue(sender, receiver, rest)
    label = f"{sender}: {message}"
    if not world.alive(receiver):
        yield f"{label} (nobody there)", left
        return
    name, number = (message[:-2], int(message[-1])) if message[-1].isdigit() else (message, None)
    deliver = {SOURCE: _to_source, DESTINATION: _to_destination, GATEWAY: _to_gateway}[receiver]
    steps = list(deliver(left, name, number))
    yield from [(label, after) for _, after in steps] or [(f"{label} (refused)", left)]


def _to_gateway(world: World, name: str, stage: int | None) -> Iterator[Step]:
    if name == "finished" and world.owner == OURS:
        yield name, _over(world)
    elif name == "ask grant":
        granted = world.owner == OURS and not world.revoked
        yield name, world.send(GATEWAY, SOURCE, "granted" if granted else "denied")
    elif name == "adopted" and (world.revoked or world.owner in (OVER, ELSEWHERE)):
        yield name, world.send(GATEWAY, DESTINATION, "abort")
    elif name == "adopted":
        yield name, world._replace(owner=THEIRS)
    elif name == "ask gateway":
        judged = world._replace(revoked=True) if world.owner == OURS else world
        verdict = {OURS: "ruled here", THEIRS: "ruled there"}.get(judged.owner, "ruled over")
        yield name, judged.send(GATEWAY, SOURCE, verdict)


def _to_source(world: World, name: str, stage: int | None) -> Iterator[Step]:
    if name == "abort":
        ended = world._replace(here="gone")
        yield from list(_source(ended, SourceEvent.GONE, None)) or [(name, ended)]
    elif name == "stage done":
        if world.source[1] < MAX_STAGE:
            yield from _source(world, SourceEvent.STAGE_COPIED, stage)
        yield from _source(world, SourceEvent.CAUGHT_UP, stage)
        yield from _source(world, SourceEvent.TOO_SLOW, stage)
    else:
        yield from _source(world, SourceEvent(name), stage)


def _to_destination(world: World, name: str, stage: int | None) -> Iterator[Step]:
    if name == "abort":
        yield from _destination(world, DestinationEvent.GONE, None)
    elif name == "chunk":
        yield from _destination(world, DestinationEvent.CHUNK, stage)
        yield from _destination(world, DestinationEvent.BAD_CHUNK, stage)
    elif name == "doubt" and world.destination[0] is MoveState.IDLE:
        yield name, world.send(DESTINATION, SOURCE, "found unknown")
    else:
        yield from _destination(world, DestinationEvent(name), stage)


def _source(world: World, event: SourceEvent, stage: int | None, label: str = "") -> Iterator[Step]:
    """One event at the source; yields nothing when the table refuses it."""
    machine = Source()
    machine.state, machine.stage, machine.granted = world.source
    try:
        actions = machine.handle(event, stage)
    except IllegalTransitionError:
        return
    moved = world._replace(source=(machine.state, machine.stage, machine.granted))
    for outcome in _source_actions(moved, actions):
        yield label or f"source: {event.value}", outcome


def _source_actions(world: World, actions: tuple[SourceAction, ...]) -> list[World]:
    worlds = [world]
    for action in actions:
        worlds = [after for before in worlds for after in _source_action(before, action)]
    return worlds


def _source_action(world: World, action: SourceAction) -> list[World]:
    A, stage = SourceAction, world.source[1]  # noqa: N806
    to_peer = {
        A.RESERVE: f"reserve {stage}",
        A.COPY: f"chunk {stage}",
        A.COMMIT: "commit",
        A.ABORT_PEER: "peer aborted",
        A.ASK_PEER: "doubt",
    }
    if action is A.FREEZE:
        return _freeze(world)
    if action in to_peer:
        return [world.send(SOURCE, DESTINATION, to_peer[action])]
    if action in (A.ASK_GRANT, A.ASK_GATEWAY):
        return [world.send(SOURCE, GATEWAY, action.value)]
    if world.here != "frozen":
        return [world]
    return [world._replace(here="running" if action is A.THAW else "gone")]


def _freeze(world: World) -> list[World]:
    """The engine freezes it, or cannot: preempted a moment ago (it stays) or already gone."""
    outcomes = [after for _, after in _source(world, SourceEvent.NOT_FREEZABLE, None)]
    if world.here == "running":
        outcomes += [after for _, after in _source(world._replace(here="frozen"), SourceEvent.FROZEN, None)]
    return outcomes


def _destination(world: World, event: DestinationEvent, stage: int | None) -> Iterator[Step]:
    machine = Destination()
    machine.state, machine.stage = world.destination
    try:
        actions = machine.handle(event, stage)
    except IllegalTransitionError:
        return
    worlds = [world._replace(destination=(machine.state, machine.stage))]
    for action in actions:
        worlds = [after for before in worlds for after in _destination_action(before, action)]
    for outcome in worlds:
        yield f"destination: {event.value}", outcome


def _destination_action(world: World, action: DestinationAction) -> list[World]:
    A, stage = DestinationAction, world.destination[1]  # noqa: N806
    answers = {
        A.ANSWER_RESERVED: f"reserved {stage}",
        A.REFUSE: f"refused {stage}",
        A.ANSWER_STAGE_DONE: f"stage done {stage}",
        A.ANSWER_COMMITTED: "commit acknowledged",
        A.ABORT_PEER: "peer aborted",
        A.ANSWER_ADOPTED: "found adopted",
        A.ANSWER_NOT_ADOPTED: "found absent",
    }
    if action in answers:
        return [world.send(DESTINATION, SOURCE, answers[action])]
    if action is A.ANNOUNCE:
        return [world.send(DESTINATION, GATEWAY, "adopted")]
    if action is A.WRITE:
        return [after for _, after in _destination(world, DestinationEvent.STAGE_IN, None)]
    if action is A.HOLD:
        held = _destination(world._replace(reserved=True), DestinationEvent.HELD, None)
        full = _destination(world, DestinationEvent.NO_ROOM, None)
        return [after for _, after in (*held, *full)]
    if action is A.ADOPT:
        running = world._replace(there="running", reserved=False)
        adopted = _destination(running, DestinationEvent.ADOPTED, None)
        failed = _destination(world, DestinationEvent.NOT_ADOPTABLE, None)
        return [after for _, after in (*adopted, *failed)]
    if action is A.END_REQUEST:
        return [world._replace(there="gone")]
    return [world._replace(reserved=False)]
