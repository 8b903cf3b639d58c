"""The source's side of one migration: drives the hand-over against engine, destination and gateway.

Whatever happens is an event in one queue; the table says what to do; the methods
of :class:`SourceActions` do it. Nothing here decides who owns the request. Until
COMMIT is sent any trouble ends the migration and the request goes on here as if
nothing had been.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass

from engine_agents import failpoints
from engine_agents.engines.port import MoveImpossible
from engine_agents.messages import (
    AbortMove,
    Committed,
    DoubtAnswer,
    GrantMove,
    Owner,
    Refuse,
    Reserved,
    StageDone,
    Taken,
    ToSource,
    split_engine_id,
)
from engine_agents.migration.handshake import (
    IllegalTransitionError,
    MoveState,
    Source,
    SourceAction,
    SourceEvent,
)
from engine_agents.migration.ports import LinkLost, MoveHost, SourceLink
from engine_agents.migration.progress import Departure, outcome
from engine_agents.migration.source_actions import SourceActions

logger = logging.getLogger(__name__)

JUDGE_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of the session. ``stage`` and ``reason`` where the message has them."""

    event: SourceEvent
    stage: int | None = None
    reason: str = ""


class OutgoingMove:
    """One request on its way out. :meth:`run` returns when it is over, one way or the other."""

    def __init__(self, host: MoveHost, departure: Departure, link: SourceLink) -> None:
        self.departure = departure
        self.machine = Source()
        self._host = host
        self._link = link
        self._actions = SourceActions(
            host,
            departure,
            link,
            self.machine,
            tell=self._tell_self,
            later=lambda event, reason="": self.tell(event, reason=reason),
            progressed=self._postpone_deadline,
        )
        self._inbox: asyncio.Queue[Happening | StageDone] = asyncio.Queue()
        self._own: deque[Happening] = deque()
        """Results of this session's own actions: they come before anything in the inbox."""
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time()

    @property
    def engine_id(self) -> str:
        return self.departure.live.engine_id

    # ---- what others tell the session

    def tell(self, event: SourceEvent, *, stage: int | None = None, reason: str = "") -> None:
        self._inbox.put_nowait(Happening(event, stage, reason))

    def gone(self, reason: str) -> None:
        """The request ended or was aborted."""
        self.tell(SourceEvent.GONE, reason=reason)

    def on_grant(self, grant: GrantMove) -> None:
        self._actions.next_dispatch = self._actions.next_dispatch or grant.next_dispatch
        event = SourceEvent.GRANTED if grant.granted else SourceEvent.DENIED
        self.tell(event, reason=f"its gateway: {grant.reason}" if grant.reason else "")

    def on_owner(self, owner: Owner) -> None:
        ours = split_engine_id(self.engine_id)[1]
        rulings = {ours: SourceEvent.RULED_HERE, self._actions.next_dispatch: SourceEvent.RULED_THERE}
        self.tell(rulings.get(owner.dispatch, SourceEvent.RULED_OVER), reason="its gateway decided")

    def _from_peer(self, message: ToSource | LinkLost) -> None:
        match message:
            case LinkLost():
                self.tell(SourceEvent.LINK_LOST, reason="link lost")
            case StageDone():
                self._inbox.put_nowait(message)
            case Taken():
                self._actions.staging.taken(message.place)
            case Reserved():
                if message.stage == 0:
                    self._actions.staging.agree_on(message.way)
                self.tell(SourceEvent.RESERVED, stage=message.stage)
            case Refuse():
                self.tell(SourceEvent.REFUSED, stage=message.stage, reason=f"refused: {message.reason}")
            case Committed():
                self.tell(SourceEvent.COMMIT_ACKNOWLEDGED)
            case AbortMove():
                self.tell(SourceEvent.PEER_ABORTED, reason=f"destination: {message.reason}")
            case DoubtAnswer():
                self.tell(_FOUND.get(message.verdict, SourceEvent.FOUND_UNKNOWN), reason=message.verdict)

    # ---- the loop

    async def run(self) -> None:
        self._link.register(self.departure.migration_id, self._from_peer)
        self._own.append(Happening(SourceEvent.START))
        try:
            while not self.machine.final:
                happening = await self._next()
                if isinstance(happening, StageDone):
                    happening = await self._after_stage(happening)
                await self._handle(happening)
        finally:
            self._link.unregister(self.departure.migration_id)
            await self._actions.staging.close()
        self._report()

    async def _next(self) -> Happening | StageDone:
        if self._own:
            return self._own.popleft()
        while True:
            deadline = self._deadline
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._inbox.get()
            except TimeoutError:
                if self._deadline <= deadline:
                    reason = f"timed out while {self.machine.state.value}"
                    return Happening(SourceEvent.TIMED_OUT, reason=reason)

    async def _handle(self, happening: Happening) -> None:
        before = self.machine.state
        try:
            actions = self.machine.handle(happening.event, happening.stage)
        except IllegalTransitionError as error:
            self._host.count("late_messages")
            logger.info("%s: refused %s", self.departure.migration_id, error)
            if happening.event is SourceEvent.TIMED_OUT:
                self._deadline = self._loop.time() + JUDGE_AGAIN_S
            return
        if happening.reason:
            self._actions.reason = happening.reason
        self._postpone_deadline()
        self._note_change(before)
        for action in actions:
            await self._do(action)

    async def _do(self, action: SourceAction) -> None:
        """What fails in a way that nobody foresaw must not leave a request frozen for ever."""
        try:
            if not await failpoints.reach("source", action):
                await self._actions.perform(action)
            await failpoints.reach("source", action, "done")
        except Exception as error:
            logger.exception("%s: %s failed", self.departure.migration_id, action.value)
            if self.machine.final:
                await self._actions.perform(action)
            elif self.machine.state is not MoveState.JUDGED:
                self._tell_self(SourceEvent.TIMED_OUT, f"{action.value} failed: {error}")

    def _postpone_deadline(self) -> None:
        """Something happened: a stage may last, as long as its chunks come."""
        self._deadline = self._loop.time() + self._patience_s()

    def _patience_s(self) -> float:
        config = self._host.config
        short = {
            MoveState.COMMITTED: config.commit_timeout_s,
            MoveState.IN_DOUBT: config.commit_timeout_s,
            MoveState.JUDGED: JUDGE_AGAIN_S,
        }
        return short.get(self.machine.state, config.stage_timeout_s)

    def _note_change(self, before: MoveState) -> None:
        state = self.machine.state
        if before is MoveState.COPYING and state is not MoveState.COPYING:
            self._actions.staging.stop()
        if self.machine.final:
            self._actions.progress.end_pause(time.perf_counter())
        if state is not before and state in (MoveState.RESERVING, MoveState.FREEZING, MoveState.IN_DOUBT):
            self._report()

    # ---- stages

    async def _after_stage(self, done: StageDone) -> Happening:
        """All blocks of a stage are in: is what is left what one step makes?"""
        if self.machine.state is not MoveState.COPYING or done.stage != self.machine.stage:
            return Happening(SourceEvent.CAUGHT_UP, stage=-1)  # refused by the table, and counted
        try:
            caught_up = await self._actions.staging.end_stage()
        except MoveImpossible as error:
            return Happening(SourceEvent.GONE, reason=str(error))
        if caught_up:
            return Happening(SourceEvent.CAUGHT_UP, stage=done.stage)
        if done.stage + 1 >= self._host.config.max_stages:
            return Happening(SourceEvent.TOO_SLOW, reason=f"not caught up after {done.stage + 1} stages")
        return Happening(SourceEvent.STAGE_COPIED, stage=done.stage)

    # ---- inside

    def _tell_self(self, event: SourceEvent, reason: str = "") -> None:
        self._own.append(Happening(event, reason=reason))

    def _report(self) -> None:
        state = self.machine.state
        # What went wrong on the way to success is of no interest to people.
        reason = "" if state is MoveState.DONE else self._actions.reason
        self._host.report(outcome(self.departure, self._actions.progress, state, reason, time.time()))


_FOUND = {"adopted": SourceEvent.FOUND_ADOPTED, "not_adopted": SourceEvent.FOUND_ABSENT}
