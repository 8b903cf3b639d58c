"""What a source does in a migration: one method per action of the handshake's table.

Nothing here decides; what comes of an action is told to the session as an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from engine_agents.engines.port import Frozen, MoveImpossible
from engine_agents.messages import AbortMove, AskMove, AskOwner, Commit, Doubt, Reserve, engine_id
from engine_agents.migration.asking import ask
from engine_agents.migration.handshake import MoveState, Source, SourceAction, SourceEvent
from engine_agents.migration.ports import MoveHost, SourceLink
from engine_agents.migration.progress import Departure, Progress
from engine_agents.migration.staging import Staging
from engine_agents.migration.transfer import checksum

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Tell(Protocol):
    """Where events go."""

    def __call__(self, event: SourceEvent, reason: str = "") -> None: ...


class SourceActions:
    """One migration's dealings with engine, destination and gateway."""

    def __init__(
        self,
        host: MoveHost,
        departure: Departure,
        link: SourceLink,
        machine: Source,
        tell: Tell,
        later: Tell,
        progressed: Callable[[], None],
    ) -> None:
        """``tell`` takes an action's own result, before anything that waits; ``later`` queues behind it;
        ``progressed`` hears of every chunk."""
        self.progress = Progress()
        self.staging = Staging(host, departure, link, self.progress, progressed)
        self.next_dispatch = 0
        """The number that the gateway issued for the destination."""
        self.reason = ""
        """Why the migration stands as it does, to be passed on."""
        self._host = host
        self._departure = departure
        self._link = link
        self._machine = machine
        self._tell = tell
        self._later = later
        self._frozen: Frozen | None = None

    async def perform(self, action: SourceAction) -> None:
        await _METHODS[action](self)

    async def _ask_grant(self) -> None:
        asking = AskMove(
            migration_id=self._departure.migration_id,
            engine_id=self._departure.live.engine_id,
            destination_instance_id=self._departure.destination_instance_id,
        )
        if not self._host.send_to_gateway(self._departure.live.client, asking):
            self._tell(SourceEvent.GONE, "its gateway is not connected")

    async def _reserve(self) -> None:
        image = b""
        if self._machine.stage == 0:
            try:
                image = await self._image_and_pin()
            except MoveImpossible as error:
                self._tell(SourceEvent.GONE, str(error))
                return
            assert self.staging.pinned is not None
            self.progress.tokens_at_start = self.staging.pinned.total_tokens
        self.progress.begin_stage(time.perf_counter())
        if not await self._link.send(self._reservation(image), within_s=self._host.config.stage_timeout_s):
            self._tell(SourceEvent.LINK_LOST, "the destination cannot be reached")

    async def _image_and_pin(self) -> bytes:
        """Both between the same two steps."""
        imaging = self._ask(self._host.engine.image(self._departure.live.engine_id))
        image, pinned = await asyncio.gather(imaging, self.staging.pin(), return_exceptions=True)
        for result in (image, pinned):
            if isinstance(result, BaseException):
                raise result
        assert isinstance(image, bytes)
        return image

    async def _copy(self) -> None:
        if self.staging.nothing_to_copy:
            self._tell(SourceEvent.CAUGHT_UP)
        else:
            self.staging.copy(self._machine.stage, self._copying_failed)

    def _copying_failed(self, error: Exception) -> None:
        logger.error("%s: copying failed", self._departure.migration_id, exc_info=error)
        self._later(SourceEvent.GONE, f"copying failed: {error}")

    async def _freeze(self) -> None:
        self.staging.unpin()
        try:
            self._frozen = await self._take_out()
        except MoveImpossible as error:
            self._tell(SourceEvent.NOT_FREEZABLE, str(error))
            return
        self.progress.frozen_at = time.perf_counter()
        self._tell(SourceEvent.FROZEN)

    async def _take_out(self) -> Frozen:
        """Out of the batch or, where it waits (pre-empted, say), out of the queue."""
        engine, name, first_block = self._host.engine, self._departure.live.engine_id, self.staging.next_block
        try:
            return await self._ask(engine.freeze(name, first_block))
        except MoveImpossible:
            return await self._ask(engine.withdraw(name, first_block))

    async def _commit(self) -> None:
        frozen = self._frozen
        assert frozen is not None
        live = self._host.live.get(self._departure.live.engine_id) or self._departure.live
        commit = Commit(
            migration_id=self._departure.migration_id,
            new_engine_id=self._new_engine_id(),
            first_block=frozen.first_block,
            blocks=frozen.blocks,
            checksum=checksum(frozen.tail),
            frozen=frozen.state,
            output_token_ids=list(frozen.output_token_ids),
            num_computed_tokens=frozen.computed_tokens,
            rank=live.rank,
            slo_class=live.slo_class,
            place=self.staging.place_tail(frozen.tail),
        )
        self.progress.tokens_moved = frozen.computed_tokens
        tail = None if commit.place else frozen.tail
        if not await self._link.send(commit, tail, within_s=self._host.config.commit_timeout_s):
            self._tell(SourceEvent.LINK_LOST, "link lost at COMMIT")

    async def _abort_peer(self) -> None:
        self._link.post(AbortMove(migration_id=self._departure.migration_id, reason=self.reason))

    async def _thaw(self) -> None:
        await self._quietly(self._host.engine.thaw(self._departure.live.engine_id))

    async def _release(self) -> None:
        if self._machine.state is MoveState.DONE and self._frozen is not None:
            self.progress.moved(self._frozen)
        await self._quietly(self._host.engine.release(self._departure.live.engine_id))
        self._host.left(self._departure.live.engine_id)

    async def _ask_peer(self) -> None:
        doubt = Doubt(migration_id=self._departure.migration_id)
        if not await self._link.send(doubt, within_s=self._host.config.commit_timeout_s):
            self._tell(SourceEvent.TIMED_OUT, self.reason)

    async def _ask_gateway(self) -> None:
        live = self._departure.live
        asking = AskOwner(migration_id=self._departure.migration_id, request_id=live.request_id)
        self._host.send_to_gateway(live.client, asking)

    # ---- inside

    def _reservation(self, image: bytes) -> Reserve:
        departure, live, info = self._departure, self._departure.live, self._host.info
        first = self._machine.stage == 0
        return Reserve(
            migration_id=departure.migration_id,
            stage=self._machine.stage,
            new_engine_id=self._new_engine_id(),
            total_tokens=self.staging.room_tokens(),
            image=image,
            gateway_id=departure.gateway_id,
            gateway_incarnation=departure.gateway_incarnation,
            slo_class=live.slo_class,
            tenant=live.tenant,
            rank=live.rank,
            prompt_tokens=live.prompt_tokens,
            compatibility=info.compatibility,
            offers=self._host.ways.offers(self.staging.block_bytes) if first else {},
        )

    def _new_engine_id(self) -> str:
        return engine_id(self._departure.live.request_id, self.next_dispatch)

    async def _ask(self, future: Future[T]) -> T:
        return await ask(future, self._host.config.stage_timeout_s)

    async def _quietly(self, future: Future[None]) -> None:
        with contextlib.suppress(MoveImpossible):
            await self._ask(future)


_METHODS: dict[SourceAction, Callable[[SourceActions], Awaitable[Any]]] = {
    SourceAction.ASK_GRANT: SourceActions._ask_grant,
    SourceAction.RESERVE: SourceActions._reserve,
    SourceAction.COPY: SourceActions._copy,
    SourceAction.FREEZE: SourceActions._freeze,
    SourceAction.COMMIT: SourceActions._commit,
    SourceAction.ABORT_PEER: SourceActions._abort_peer,
    SourceAction.THAW: SourceActions._thaw,
    SourceAction.RELEASE: SourceActions._release,
    SourceAction.ASK_PEER: SourceActions._ask_peer,
    SourceAction.ASK_GATEWAY: SourceActions._ask_gateway,
}
