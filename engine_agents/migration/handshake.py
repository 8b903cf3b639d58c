"""The hand-over of one request as two tables of states: no IO, no clock, no engine.

A table says, for a state and an event, the next state and the actions that the
driver (:mod:`engine_agents.migration.session`) must carry out, in order. What a
table does not list is illegal: it raises and changes nothing, so duplicated and
late messages have no effect.

Stages follow the paper (Llumnix, OSDI'24, section 4.2): reserve and copy while
the source decodes, until what is left is what one step makes; then freeze,
commit, release. Beyond the paper, the hand-over is a two-party commit, which
has a state of doubt: a source that sent COMMIT and heard nothing asks the
destination; if that does not settle it, the request's gateway *judges*. Once
the gateway has been asked only its verdict counts, because asking it revokes
the destination's dispatch number unless the destination is known to have
adopted. So at no time may both sides run with tokens of both accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar


class MoveState(StrEnum):
    IDLE = "idle"
    RESERVING = "reserving"
    """Source: asked for a dispatch number or for room. Destination: finding room."""
    COPYING = "copying"
    FREEZING = "freezing"
    COMMITTED = "committed"
    """Source: COMMIT sent. Destination: COMMIT received, adopting."""
    IN_DOUBT = "in_doubt"
    """COMMIT unanswered, the destination is asked; the request stays frozen."""
    JUDGED = "judged"
    """The gateway is asked; from here on only its verdict counts."""
    DONE = "done"
    ABORTED = "aborted"


FINAL = frozenset({MoveState.DONE, MoveState.ABORTED})


class SourceEvent(StrEnum):
    START = "start"
    GRANTED = "granted"
    """The gateway issued the dispatch number for the destination."""
    DENIED = "denied"
    RESERVED = "reserved"
    REFUSED = "refused"
    STAGE_COPIED = "stage copied"
    """The stage is in and more than one step's work was made meanwhile."""
    CAUGHT_UP = "caught up"
    """The stage is in and what is left is what one step makes."""
    TOO_SLOW = "too slow"
    """As many stages as allowed, and still not caught up."""
    FROZEN = "frozen"
    NOT_FREEZABLE = "not freezable"
    """Finished or aborted before it could be frozen."""
    COMMIT_ACKNOWLEDGED = "commit acknowledged"
    PEER_ABORTED = "peer aborted"
    """The destination has freed what it held and will never adopt."""
    GONE = "gone"
    """The request is no longer ours to move: finished, aborted by its client, gateway gone."""
    TIMED_OUT = "timed out"
    LINK_LOST = "link lost"
    FOUND_ADOPTED = "found adopted"
    FOUND_ABSENT = "found absent"
    """The destination did not adopt and never will."""
    FOUND_UNKNOWN = "found unknown"
    """The destination does not know of it: it may have restarted since."""
    RULED_HERE = "ruled here"
    RULED_THERE = "ruled there"
    """The gateway has the destination for its owner."""
    RULED_OVER = "ruled over"
    """The request has ended, or a recovery runs it under a third dispatch number."""


class SourceAction(StrEnum):
    ASK_GRANT = "ask grant"
    RESERVE = "reserve"
    COPY = "copy"
    FREEZE = "freeze"
    COMMIT = "commit"
    ABORT_PEER = "abort peer"
    THAW = "thaw"
    RELEASE = "release"
    ASK_PEER = "ask peer"
    ASK_GATEWAY = "ask gateway"


class DestinationEvent(StrEnum):
    RESERVE = "reserve"
    HELD = "held"
    NO_ROOM = "no room"
    CHUNK = "chunk"
    BAD_CHUNK = "bad chunk"
    STAGE_IN = "stage in"
    COMMIT = "commit"
    ADOPTED = "adopted"
    NOT_ADOPTABLE = "not adoptable"
    PEER_ABORTED = "peer aborted"
    GONE = "gone"
    """The gateway aborted the request or is gone itself."""
    EXPIRED = "expired"
    """Nothing came from the source for as long as a reservation lives."""
    DOUBT = "doubt"
    """The source asks whether we adopted."""


class DestinationAction(StrEnum):
    HOLD = "hold"
    ANSWER_RESERVED = "answer reserved"
    REFUSE = "refuse"
    WRITE = "write"
    ANSWER_STAGE_DONE = "answer stage done"
    ADOPT = "adopt"
    ANNOUNCE = "announce"
    """Tell the gateway; before the source may release."""
    ANSWER_COMMITTED = "answer committed"
    ABORT_PEER = "abort peer"
    DROP = "drop"
    END_REQUEST = "end request"
    ANSWER_ADOPTED = "answer adopted"
    ANSWER_NOT_ADOPTED = "answer not adopted"


E = TypeVar("E", bound=StrEnum)
A = TypeVar("A", bound=StrEnum)
Table = Mapping[MoveState, Mapping[E, tuple[MoveState, tuple[A, ...]]]]


class IllegalTransitionError(Exception):
    """The event has no place in this state; nothing was changed."""


def _source_table() -> Table[SourceEvent, SourceAction]:
    S, E, A = MoveState, SourceEvent, SourceAction  # noqa: N806 - a table reads better in short names
    give_up = (S.ABORTED, (A.ABORT_PEER,))
    unlock = (S.ABORTED, (A.THAW,))
    back_out = (S.ABORTED, (A.THAW, A.ABORT_PEER))
    forget = (S.ABORTED, (A.RELEASE,))
    appeal = (S.JUDGED, (A.ASK_GATEWAY,))
    before_freezing = {
        E.GONE: give_up,
        E.TIMED_OUT: give_up,
        E.LINK_LOST: give_up,
        E.PEER_ABORTED: (S.ABORTED, ()),
    }
    return {
        S.IDLE: {E.START: (S.RESERVING, (A.ASK_GRANT,)), E.GONE: (S.ABORTED, ())},
        S.RESERVING: {
            E.GRANTED: (S.RESERVING, (A.RESERVE,)),
            E.DENIED: (S.ABORTED, ()),
            E.RESERVED: (S.COPYING, (A.COPY,)),
            E.REFUSED: (S.ABORTED, ()),
            **before_freezing,
        },
        S.COPYING: {
            E.STAGE_COPIED: (S.RESERVING, (A.RESERVE,)),
            E.CAUGHT_UP: (S.FREEZING, (A.FREEZE,)),
            E.TOO_SLOW: give_up,
            **before_freezing,
        },
        S.FREEZING: {
            E.FROZEN: (S.COMMITTED, (A.COMMIT,)),
            E.NOT_FREEZABLE: give_up,
            E.GONE: back_out,
            E.TIMED_OUT: back_out,
            E.LINK_LOST: back_out,
            E.PEER_ABORTED: unlock,
        },
        S.COMMITTED: {
            E.COMMIT_ACKNOWLEDGED: (S.DONE, (A.RELEASE,)),
            E.PEER_ABORTED: unlock,
            E.GONE: forget,
            E.TIMED_OUT: (S.IN_DOUBT, (A.ASK_PEER,)),
            E.LINK_LOST: (S.IN_DOUBT, (A.ASK_PEER,)),
        },
        S.IN_DOUBT: {
            E.COMMIT_ACKNOWLEDGED: (S.DONE, (A.RELEASE,)),
            E.FOUND_ADOPTED: (S.DONE, (A.RELEASE,)),
            E.PEER_ABORTED: unlock,
            E.FOUND_ABSENT: unlock,
            E.GONE: forget,
            E.FOUND_UNKNOWN: appeal,
            E.TIMED_OUT: appeal,
            E.LINK_LOST: appeal,
        },
        S.JUDGED: {
            E.RULED_HERE: back_out,
            E.RULED_THERE: (S.DONE, (A.RELEASE,)),
            E.RULED_OVER: forget,
            E.GONE: forget,
            E.TIMED_OUT: appeal,
        },
        S.DONE: {},
        S.ABORTED: {},
    }


def _destination_table() -> Table[DestinationEvent, DestinationAction]:
    S, E, A = MoveState, DestinationEvent, DestinationAction  # noqa: N806 - as above
    lapse = (S.ABORTED, (A.DROP,))
    return {
        S.IDLE: {E.RESERVE: (S.RESERVING, (A.HOLD,))},
        S.RESERVING: {
            E.HELD: (S.COPYING, (A.ANSWER_RESERVED,)),
            E.NO_ROOM: (S.ABORTED, (A.DROP, A.REFUSE)),
        },
        S.COPYING: {
            E.RESERVE: (S.RESERVING, (A.HOLD,)),
            E.CHUNK: (S.COPYING, (A.WRITE,)),
            E.BAD_CHUNK: (S.ABORTED, (A.DROP, A.ABORT_PEER)),
            E.STAGE_IN: (S.COPYING, (A.ANSWER_STAGE_DONE,)),
            E.COMMIT: (S.COMMITTED, (A.ADOPT,)),
            E.PEER_ABORTED: lapse,
            E.EXPIRED: (S.ABORTED, (A.DROP, A.ABORT_PEER)),
            E.GONE: (S.ABORTED, (A.DROP, A.ABORT_PEER)),
            # COMMIT was lost before the question: never adopt it, should it still come.
            E.DOUBT: (S.ABORTED, (A.DROP, A.ANSWER_NOT_ADOPTED)),
        },
        S.COMMITTED: {
            E.ADOPTED: (S.DONE, (A.ANNOUNCE, A.ANSWER_COMMITTED)),
            E.NOT_ADOPTABLE: (S.ABORTED, (A.DROP, A.ABORT_PEER)),
        },
        S.DONE: {
            E.COMMIT: (S.DONE, (A.ANSWER_COMMITTED,)),
            E.DOUBT: (S.DONE, (A.ANSWER_ADOPTED,)),
            E.GONE: (S.DONE, (A.END_REQUEST,)),
        },
        S.ABORTED: {
            E.COMMIT: (S.ABORTED, (A.ABORT_PEER,)),
            E.DOUBT: (S.ABORTED, (A.ANSWER_NOT_ADOPTED,)),
        },
    }


SOURCE_TABLE = _source_table()
DESTINATION_TABLE = _destination_table()


class _Machine(Generic[E, A]):
    """One side: a state, a stage, and the table that moves them."""

    def __init__(self, table: Table[E, A]) -> None:
        self._table = table
        self.state = MoveState.IDLE
        self.stage = -1

    @property
    def final(self) -> bool:
        return self.state in FINAL

    def _step(self, event: E) -> tuple[A, ...]:
        try:
            self.state, actions = self._table[self.state][event]
        except KeyError:
            raise IllegalTransitionError(f"{event.value!r} while {self.state.value}") from None
        return actions

    def _same_stage(self, event: E, stage: int | None) -> None:
        if stage is not None and stage != self.stage:
            raise IllegalTransitionError(f"{event.value!r} of stage {stage} in stage {self.stage}")


class Source(_Machine[SourceEvent, SourceAction]):
    """The side that hands the request over."""

    def __init__(self) -> None:
        super().__init__(SOURCE_TABLE)
        self.granted = False

    def handle(self, event: SourceEvent, stage: int | None = None) -> tuple[SourceAction, ...]:
        """Move on; returns what to do now. ``stage`` is that of the message, where it has one."""
        self._same_stage(event, stage)
        if self.state is MoveState.RESERVING:
            self._grant_comes_first(event)
        actions = self._step(event)
        self.granted = self.granted or event is SourceEvent.GRANTED
        if SourceAction.RESERVE in actions:
            self.stage += 1
        return actions

    def _grant_comes_first(self, event: SourceEvent) -> None:
        """A second grant must not reserve again; nothing can be reserved before the first."""
        only_before = event in (SourceEvent.GRANTED, SourceEvent.DENIED)
        only_after = event in (SourceEvent.RESERVED, SourceEvent.REFUSED)
        if (only_before and self.granted) or (only_after and not self.granted):
            raise IllegalTransitionError(f"{event.value!r}, granted: {self.granted}")


class Destination(_Machine[DestinationEvent, DestinationAction]):
    """The side that takes the request over."""

    def __init__(self) -> None:
        super().__init__(DESTINATION_TABLE)

    def handle(self, event: DestinationEvent, stage: int | None = None) -> tuple[DestinationAction, ...]:
        """Move on; returns what to do now. ``stage`` is that of the message, where it has one."""
        if event is DestinationEvent.RESERVE:
            if stage != self.stage + 1:
                raise IllegalTransitionError(f"stage {stage} after stage {self.stage}")
        else:
            self._same_stage(event, stage)
        actions = self._step(event)
        if event is DestinationEvent.RESERVE:
            self.stage += 1
        return actions
