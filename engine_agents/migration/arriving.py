"""The destination's side of one migration: room, blocks, adoption, and answers to late questions.

Messages are handled one after the other. After the end the session stays for a
while, to answer a repeated COMMIT or a source in doubt; what it then no longer
knows, the gateway does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from engine_agents import failpoints
from engine_agents.engines.port import Frozen, MoveImpossible, Reservation
from engine_agents.live_requests import LiveRequest
from engine_agents.messages import (
    AbortMove,
    Adopted,
    Chunk,
    Commit,
    Committed,
    Doubt,
    DoubtAnswer,
    Message,
    Refuse,
    Reserve,
    Reserved,
    StageDone,
    Taken,
    ToDestination,
)
from engine_agents.migration.asking import ask
from engine_agents.migration.handshake import (
    Destination,
    DestinationAction,
    DestinationEvent,
    IllegalTransitionError,
)
from engine_agents.migration.ports import MoveHost
from engine_agents.migration.transfer import DamagedChunkError, check

logger = logging.getLogger(__name__)

QUEUED_MESSAGES = 8
"""Bounds what one migration may have waiting; the link waits, and with it the source."""
REMEMBER_S = 60.0


class _Gone:
    """The gateway aborted the request, or is gone itself."""


class ArrivingMove:
    """One request on its way in."""

    def __init__(
        self,
        host: MoveHost,
        first: Reserve,
        client: str,
        reply: Callable[[Message], bool],
        admit: Callable[[Reserve], str],
        admit_adoption: Callable[[LiveRequest], str],
    ) -> None:
        """``reply`` reaches the source; the others say why it may not come in, "" if it may."""
        self.migration_id = first.migration_id
        self.live = LiveRequest(
            engine_id=first.new_engine_id,
            client=client,
            slo_class=first.slo_class,
            tenant=first.tenant,
            rank=first.rank,
            prompt_tokens=first.prompt_tokens,
        )
        self.machine = Destination()
        self.reply = reply
        self._host = host
        self._admit = admit
        self._admit_adoption = admit_adoption
        self._queue: asyncio.Queue[tuple[ToDestination | _Gone, memoryview | None]] = asyncio.Queue(
            QUEUED_MESSAGES
        )
        self._loop = asyncio.get_running_loop()
        self._reservation: Reservation | None = None
        self._next_block = 0
        self._way, self._open_bytes = host.ways.accept(first.offers)
        self._reason = ""
        self._message: ToDestination | None = None
        self._frame: memoryview | None = None

    @property
    def over(self) -> bool:
        return self.machine.final

    async def put(self, message: ToDestination, frame: memoryview | None) -> None:
        """Waits while this migration is behind."""
        await self._queue.put((message, frame))

    def gone(self) -> None:
        """Called by the agent; is handled after the message at hand."""
        asyncio.ensure_future(self._queue.put((_Gone(), None)))  # noqa: RUF006 - the queue holds it

    async def run(self) -> None:
        """Until nobody can have questions any more."""
        try:
            while await self._handle_next():
                pass
        finally:
            await self._drop()

    async def _handle_next(self) -> bool:
        """False when the session may be forgotten."""
        patience_s = REMEMBER_S if self.over else self._host.config.reservation_ttl_s
        try:
            async with asyncio.timeout(patience_s):
                message, frame = await self._queue.get()
        except TimeoutError:
            if self.over:
                return False
            await self._apply(DestinationEvent.EXPIRED, reason="reservation expired")
            return True
        if isinstance(message, _Gone):
            await self._apply(DestinationEvent.GONE, reason="aborted by its gateway")
            return True
        self._message, self._frame = message, frame
        await self._take(message)
        self._message = self._frame = None
        return True

    async def _take(self, message: ToDestination) -> None:
        match message:
            case Reserve():
                await self._apply(DestinationEvent.RESERVE, message.stage)
            case Chunk():
                await self._apply(DestinationEvent.CHUNK, message.stage)
            case Commit():
                await self._apply(DestinationEvent.COMMIT)
            case AbortMove():
                await self._apply(DestinationEvent.PEER_ABORTED, reason=message.reason)
            case Doubt():
                await self._apply(DestinationEvent.DOUBT)

    async def _apply(self, event: DestinationEvent, stage: int | None = None, reason: str = "") -> None:
        for action in self._move(event, stage, reason):
            if not await failpoints.reach("destination", action):
                await _ACTIONS[action](self)
            await failpoints.reach("destination", action, "done")

    def _move(
        self, event: DestinationEvent, stage: int | None = None, reason: str = ""
    ) -> tuple[DestinationAction, ...]:
        try:
            actions = self.machine.handle(event, stage)
        except IllegalTransitionError as error:
            self._host.count("late_messages")
            logger.info("%s: refused %s", self.migration_id, error)
            return ()
        self._reason = reason or self._reason
        return actions

    # ---- actions

    async def _hold(self) -> None:
        reserve = self._message
        assert isinstance(reserve, Reserve)
        try:
            await self._find_room(reserve)
        except MoveImpossible as error:
            await self._apply(DestinationEvent.NO_ROOM, reason=str(error))
        else:
            await self._apply(DestinationEvent.HELD)

    async def _find_room(self, reserve: Reserve) -> None:
        engine, limit_s = self._host.engine, self._host.config.stage_timeout_s
        if self._reservation is not None:
            await ask(engine.extend(self._reservation, reserve.total_tokens), limit_s)
            return
        refusal = self._admit(reserve)
        if refusal:
            raise MoveImpossible(refusal)
        holding = engine.hold(self.live.client, self.live.engine_id, reserve.image, reserve.total_tokens)
        self._reservation = await ask(holding, limit_s, undo=engine.drop)

    async def _write(self) -> None:
        chunk, frame, reservation = self._message, self._frame, self._reservation
        assert isinstance(chunk, Chunk)
        assert reservation is not None
        try:
            if chunk.first_block != self._next_block:
                raise DamagedChunkError(f"block {chunk.first_block} where {self._next_block} was due")
            await asyncio.to_thread(self._check_and_write, reservation, chunk, frame)
        except (DamagedChunkError, MoveImpossible, ValueError) as error:
            self._host.count("damaged_chunks")
            await self._apply(DestinationEvent.BAD_CHUNK, reason=str(error))
            return
        if chunk.place and not chunk.last:
            self.reply(Taken(migration_id=self.migration_id, place=chunk.place))
        self._next_block += chunk.blocks
        if chunk.last:
            await self._apply(DestinationEvent.STAGE_IN)

    def _check_and_write(self, reservation: Reservation, chunk: Chunk, frame: memoryview | None) -> None:
        data = self._open_bytes(chunk.place, frame)
        check(data, chunk.checksum)
        self._host.engine.write(reservation, chunk.first_block, chunk.blocks, data)

    async def _adopt(self) -> None:
        try:
            adopting = await self._begin_adoption()
        except (DamagedChunkError, MoveImpossible) as error:
            await self._apply(DestinationEvent.NOT_ADOPTABLE, reason=str(error))
            return
        settled = self._loop.create_future()
        adopting.add_done_callback(
            lambda done: self._loop.call_soon_threadsafe(self._on_adopted, done, settled)
        )
        await settled
        if not self.over:
            await self._apply(DestinationEvent.NOT_ADOPTABLE, reason=self._reason)

    async def _begin_adoption(self) -> Future[None]:
        commit, frame, reservation = self._message, self._frame, self._reservation
        assert isinstance(commit, Commit)
        if reservation is None or commit.new_engine_id != self.live.engine_id:
            raise DamagedChunkError("COMMIT does not belong to what was reserved")
        tail = self._open_bytes(commit.place, frame)
        if commit.first_block != self._next_block:
            raise DamagedChunkError("the tail of COMMIT does not follow what was copied")
        check(tail, commit.checksum)
        refusal = self._admit_adoption(self.live)
        if refusal:
            raise MoveImpossible(refusal)
        needed = commit.num_computed_tokens + 1
        if needed > reservation.blocks * self._host.info.block_size_tokens:
            extending = self._host.engine.extend(reservation, needed)
            await ask(extending, self._host.config.stage_timeout_s)
        return self._host.engine.adopt(reservation, _frozen(commit, tail))

    def _on_adopted(self, done: Future[None], settled: asyncio.Future[None]) -> None:
        """Runs before the outputs of any step that has the request in it: Adopted goes out first."""
        error = done.exception()
        try:
            if error is None:
                self._is_ours()
            else:
                logger.warning("%s: not adopted: %s", self.migration_id, error)
                self._reason = f"not adopted: {error}"
        finally:
            if not settled.done():
                settled.set_result(None)

    def _is_ours(self) -> None:
        self._reservation = None
        commit = self._message
        assert isinstance(commit, Commit)
        for action in self._move(DestinationEvent.ADOPTED):
            if not failpoints.pass_by("destination", action):
                _ANSWERS[action](self, commit)
            failpoints.pass_by("destination", action, "done")

    def _announce(self, commit: Commit) -> None:
        self._host.arrived(self.live)
        self._catch_up_rank(commit)
        adopted = Adopted(
            migration_id=self.migration_id,
            engine_id=self.live.engine_id,
            start=len(commit.output_token_ids),
            output_token_ids=commit.output_token_ids,
        )
        self._host.send_to_gateway(self.live.client, adopted)

    def _catch_up_rank(self, commit: Commit) -> None:
        """Its urgency may have changed since it was reserved for."""
        rank = self.live.rank if commit.rank is None else commit.rank
        if (rank, commit.slo_class or self.live.slo_class) != (self.live.rank, self.live.slo_class):
            self._host.set_rank([self.live.engine_id], rank, commit.slo_class)

    def _acknowledge(self, commit: Commit) -> None:
        self.reply(Committed(migration_id=self.migration_id))

    async def _answer_committed(self) -> None:
        self.reply(Committed(migration_id=self.migration_id))

    async def _answer_reserved(self) -> None:
        blocks = self._reservation.blocks if self._reservation is not None else 0
        reserved = Reserved(
            migration_id=self.migration_id, stage=self.machine.stage, blocks=blocks, way=self._way
        )
        self.reply(reserved)

    async def _refuse(self) -> None:
        self.reply(Refuse(migration_id=self.migration_id, stage=self.machine.stage, reason=self._reason))

    async def _answer_stage_done(self) -> None:
        self.reply(StageDone(migration_id=self.migration_id, stage=self.machine.stage))

    async def _abort_peer(self) -> None:
        self.reply(AbortMove(migration_id=self.migration_id, reason=self._reason))

    async def _answer_adopted(self) -> None:
        self.reply(DoubtAnswer(migration_id=self.migration_id, verdict="adopted"))

    async def _answer_not_adopted(self) -> None:
        self.reply(DoubtAnswer(migration_id=self.migration_id, verdict="not_adopted"))

    async def _end_request(self) -> None:
        self._host.engine.abort([self.live.engine_id])
        self._host.left(self.live.engine_id)

    async def _drop(self) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            self._host.engine.drop(reservation)


def _frozen(commit: Commit, tail: memoryview) -> Frozen:
    return Frozen(
        engine_id=commit.new_engine_id,
        first_block=commit.first_block,
        blocks=commit.blocks,
        tail=bytes(tail),
        state=commit.frozen,
        output_token_ids=tuple(commit.output_token_ids),
        computed_tokens=commit.num_computed_tokens,
    )


_ANSWERS: dict[DestinationAction, Callable[[ArrivingMove, Commit], None]] = {
    DestinationAction.ANNOUNCE: ArrivingMove._announce,
    DestinationAction.ANSWER_COMMITTED: ArrivingMove._acknowledge,
}

_ACTIONS: dict[DestinationAction, Callable[[ArrivingMove], Awaitable[Any]]] = {
    DestinationAction.HOLD: ArrivingMove._hold,
    DestinationAction.ANSWER_RESERVED: ArrivingMove._answer_reserved,
    DestinationAction.REFUSE: ArrivingMove._refuse,
    DestinationAction.WRITE: ArrivingMove._write,
    DestinationAction.ANSWER_STAGE_DONE: ArrivingMove._answer_stage_done,
    DestinationAction.ADOPT: ArrivingMove._adopt,
    DestinationAction.ANSWER_COMMITTED: ArrivingMove._answer_committed,
    DestinationAction.ABORT_PEER: ArrivingMove._abort_peer,
    DestinationAction.DROP: ArrivingMove._drop,
    DestinationAction.END_REQUEST: ArrivingMove._end_request,
    DestinationAction.ANSWER_ADOPTED: ArrivingMove._answer_adopted,
    DestinationAction.ANSWER_NOT_ADOPTED: ArrivingMove._answer_not_adopted,
}
