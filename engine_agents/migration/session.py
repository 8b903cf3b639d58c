"""The source's side of one migration: drives the hand-over against engine, destination and gateway.

Whatever happens is an event in one queue; the table says what to do; the
methods named after its actions do it. Nothing here decides who owns the
request. Until COMMIT is sent any trouble ends the migration and the request
goes on here as if nothing had been.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from engine_agents import failpoints
from engine_agents.engines.port import Frozen, MoveImpossible
from engine_agents.messages import (
    AbortMove,
    AskMove,
    AskOwner,
    Commit,
    Committed,
    Doubt,
    DoubtAnswer,
    GrantMove,
    Owner,
    Refuse,
    Reserve,
    Reserved,
    StageDone,
    Taken,
    ToSource,
    engine_id,
    split_engine_id,
)
from engine_agents.migration.asking import ask
from engine_agents.migration.handshake import (
    IllegalTransitionError,
    MoveState,
    Source,
    SourceAction,
    SourceEvent,
)
from engine_agents.migration.ports import LinkLost, MoveHost, SourceLink
from engine_agents.migration.progress import Departure, Progress, outcome
from engine_agents.migration.staging import Staging
from engine_agents.migration.transfer import checksum

logger = logging.getLogger(__name__)

JUDGE_AGAIN_S = 1.0
T = TypeVar("T")


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
        self.reason = ""
        self.progress = Progress()
        self._host = host
        self._link = link
        self._staging = Staging(host, departure, link, self.progress)
        self._inbox: asyncio.Queue[Happening | StageDone] = asyncio.Queue()
        self._own: deque[Happening] = deque()
        """Results of this session's own actions: they come before anything in the inbox."""
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time()
        self._next_dispatch = 0
        self._frozen: Frozen | None = None

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
        self._next_dispatch = self._next_dispatch or grant.next_dispatch
        event = SourceEvent.GRANTED if grant.granted else SourceEvent.DENIED
        self.tell(event, reason=f"its gateway: {grant.reason}" if grant.reason else "")

    def on_owner(self, owner: Owner) -> None:
        ours = split_engine_id(self.engine_id)[1]
        rulings = {ours: SourceEvent.RULED_HERE, self._next_dispatch: SourceEvent.RULED_THERE}
        self.tell(rulings.get(owner.dispatch, SourceEvent.RULED_OVER), reason="its gateway decided")

    def _from_peer(self, message: ToSource | LinkLost) -> None:
        match message:
            case LinkLost():
                self.tell(SourceEvent.LINK_LOST, reason="link lost")
            case StageDone():
                self._inbox.put_nowait(message)
            case Taken():
                self._staging.taken(message.place)
            case Reserved():
                if message.stage == 0:
                    self._staging.agree_on(message.way)
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
            await self._staging.close()
        self._report()

    async def _next(self) -> Happening | StageDone:
        if self._own:
            return self._own.popleft()
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._inbox.get()
        except TimeoutError:
            return Happening(SourceEvent.TIMED_OUT, reason=f"timed out while {self.machine.state.value}")

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
            self.reason = happening.reason
        self._deadline = self._loop.time() + self._patience_s()
        self._note_change(before)
        for action in actions:
            await self._do(action)

    async def _do(self, action: SourceAction) -> None:
        """What fails in a way that nobody foresaw must not leave a request frozen for ever."""
        try:
            if not await failpoints.reach("source", action):
                await _ACTIONS[action](self)
            await failpoints.reach("source", action, "done")
        except Exception as error:
            logger.exception("%s: %s failed", self.departure.migration_id, action.value)
            if self.machine.final:
                await _ACTIONS[action](self)
            elif self.machine.state is not MoveState.JUDGED:
                self._tell_self(SourceEvent.TIMED_OUT, f"{action.value} failed: {error}")

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
            self._staging.stop()
        if self.machine.final:
            self.progress.end_pause(time.perf_counter())
        if state is not before and state in (MoveState.RESERVING, MoveState.FREEZING, MoveState.IN_DOUBT):
            self._report()

    # ---- actions

    async def _ask_grant(self) -> None:
        ask = AskMove(
            migration_id=self.departure.migration_id,
            engine_id=self.engine_id,
            destination_instance_id=self.departure.destination_instance_id,
        )
        if not self._host.send_to_gateway(self.departure.live.client, ask):
            self._tell_self(SourceEvent.GONE, "its gateway is not connected")

    async def _reserve(self) -> None:
        image = b""
        if self.machine.stage == 0:
            try:
                image = await self._ask(self._host.engine.image(self.engine_id))
                await self._staging.pin()
            except MoveImpossible as error:
                self._tell_self(SourceEvent.GONE, str(error))
                return
            assert self._staging.pinned is not None
            self.progress.tokens_at_start = self._staging.pinned.total_tokens
        self.progress.begin_stage(time.perf_counter())
        if not await self._link.send(self._reservation(image), within_s=self._host.config.stage_timeout_s):
            self._tell_self(SourceEvent.LINK_LOST, "the destination cannot be reached")

    async def _copy(self) -> None:
        if self._staging.nothing_to_copy:
            self._tell_self(SourceEvent.CAUGHT_UP)
        else:
            self._staging.copy(self.machine.stage, self._copying_failed)

    def _copying_failed(self, error: Exception) -> None:
        logger.error("%s: copying failed", self.departure.migration_id, exc_info=error)
        self.tell(SourceEvent.GONE, reason=f"copying failed: {error}")

    async def _freeze(self) -> None:
        self._staging.unpin()
        try:
            self._frozen = await self._take_out()
        except MoveImpossible as error:
            self._tell_self(SourceEvent.NOT_FREEZABLE, str(error))
            return
        self.progress.frozen_at = time.perf_counter()
        self._tell_self(SourceEvent.FROZEN)

    async def _take_out(self) -> Frozen:
        """Out of the batch or, where it waits (pre-empted, say), out of the queue."""
        engine = self._host.engine
        try:
            return await self._ask(engine.freeze(self.engine_id, self._staging.next_block))
        except MoveImpossible:
            return await self._ask(engine.withdraw(self.engine_id, self._staging.next_block))

    async def _commit(self) -> None:
        frozen = self._frozen
        assert frozen is not None
        live = self._host.live.get(self.engine_id) or self.departure.live
        commit = Commit(
            migration_id=self.departure.migration_id,
            new_engine_id=self._new_engine_id(),
            first_block=frozen.first_block,
            blocks=frozen.blocks,
            checksum=checksum(frozen.tail),
            frozen=frozen.state,
            output_token_ids=list(frozen.output_token_ids),
            num_computed_tokens=frozen.computed_tokens,
            rank=live.rank,
            slo_class=live.slo_class,
            place=self._staging.place_tail(frozen.tail),
        )
        self.progress.tokens_moved = frozen.computed_tokens
        tail = None if commit.place else frozen.tail
        if not await self._link.send(commit, tail, within_s=self._host.config.commit_timeout_s):
            self._tell_self(SourceEvent.LINK_LOST, "link lost at COMMIT")

    async def _abort_peer(self) -> None:
        self._link.post(AbortMove(migration_id=self.departure.migration_id, reason=self.reason))

    async def _thaw(self) -> None:
        await self._quietly(self._host.engine.thaw(self.engine_id))

    async def _release(self) -> None:
        if self.machine.state is MoveState.DONE:
            self.reason = ""
            if self._frozen is not None:
                self.progress.moved(self._frozen)
        await self._quietly(self._host.engine.release(self.engine_id))
        self._host.left(self.engine_id)

    async def _ask_peer(self) -> None:
        doubt = Doubt(migration_id=self.departure.migration_id)
        if not await self._link.send(doubt, within_s=self._host.config.commit_timeout_s):
            self._tell_self(SourceEvent.TIMED_OUT, self.reason)

    async def _ask_gateway(self) -> None:
        live = self.departure.live
        ask = AskOwner(migration_id=self.departure.migration_id, request_id=live.request_id)
        self._host.send_to_gateway(live.client, ask)

    # ---- stages

    def _reservation(self, image: bytes) -> Reserve:
        departure, live, info = self.departure, self.departure.live, self._host.info
        return Reserve(
            migration_id=departure.migration_id,
            stage=self.machine.stage,
            new_engine_id=self._new_engine_id(),
            total_tokens=self._staging.room_tokens(),
            image=image,
            gateway_id=departure.gateway_id,
            gateway_incarnation=departure.gateway_incarnation,
            slo_class=live.slo_class,
            tenant=live.tenant,
            rank=live.rank,
            prompt_tokens=live.prompt_tokens,
            compatibility=info.compatibility,
            offers=self._host.ways.offers(self._staging.block_bytes) if self.machine.stage == 0 else {},
        )

    async def _after_stage(self, done: StageDone) -> Happening:
        """All blocks of a stage are in: is what is left what one step makes?"""
        if self.machine.state is not MoveState.COPYING or done.stage != self.machine.stage:
            return Happening(SourceEvent.CAUGHT_UP, stage=-1)  # refused by the table, and counted
        try:
            caught_up = await self._staging.end_stage()
        except MoveImpossible as error:
            return Happening(SourceEvent.GONE, reason=str(error))
        if caught_up:
            return Happening(SourceEvent.CAUGHT_UP, stage=done.stage)
        if done.stage + 1 >= self._host.config.max_stages:
            return Happening(SourceEvent.TOO_SLOW, reason=f"not caught up after {done.stage + 1} stages")
        return Happening(SourceEvent.STAGE_COPIED, stage=done.stage)

    # ---- inside

    def _new_engine_id(self) -> str:
        return engine_id(self.departure.live.request_id, self._next_dispatch)

    def _tell_self(self, event: SourceEvent, reason: str = "") -> None:
        self._own.append(Happening(event, reason=reason))

    async def _ask(self, future: Future[T]) -> T:
        return await ask(future, self._host.config.stage_timeout_s)

    async def _quietly(self, future: Future[None]) -> None:
        with contextlib.suppress(MoveImpossible):
            await self._ask(future)

    def _report(self) -> None:
        self._host.report(
            outcome(self.departure, self.progress, self.machine.state, self.reason, time.time())
        )


_FOUND = {"adopted": SourceEvent.FOUND_ADOPTED, "not_adopted": SourceEvent.FOUND_ABSENT}

_ACTIONS: dict[SourceAction, Callable[[OutgoingMove], Awaitable[Any]]] = {
    SourceAction.ASK_GRANT: OutgoingMove._ask_grant,
    SourceAction.RESERVE: OutgoingMove._reserve,
    SourceAction.COPY: OutgoingMove._copy,
    SourceAction.FREEZE: OutgoingMove._freeze,
    SourceAction.COMMIT: OutgoingMove._commit,
    SourceAction.ABORT_PEER: OutgoingMove._abort_peer,
    SourceAction.THAW: OutgoingMove._thaw,
    SourceAction.RELEASE: OutgoingMove._release,
    SourceAction.ASK_PEER: OutgoingMove._ask_peer,
    SourceAction.ASK_GATEWAY: OutgoingMove._ask_gateway,
}
