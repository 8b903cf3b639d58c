"""The copying part of an outgoing migration: which blocks are pinned, sent, and what is left.

Everything here happens while the source decodes on; nothing decides the
migration's fate, which is the table's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from engine_agents.engines.port import MoveImpossible, Pinned, RequestState
from engine_agents.migration.asking import ask
from engine_agents.migration.ports import MoveHost, SourceLink
from engine_agents.migration.progress import DRAIN, Departure, Progress
from engine_agents.migration.transfer import Buffer, KvTransfer, Span, Stage, spans
from engine_agents.migration.ways import WITH_MESSAGES

SPARE_BLOCKS = 2
"""Reserved beyond what the request has, so that growing while a stage is copied needs no further asking."""
ONE_STEPS_BLOCKS = 1
"""So many full blocks left are what one step makes at most: they travel with the tail."""


class Staging:
    """Blocks before ``next_block`` are at the destination; the full ones after them are pinned."""

    def __init__(
        self,
        host: MoveHost,
        departure: Departure,
        link: SourceLink,
        progress: Progress,
        progressed: Callable[[], None],
    ) -> None:
        """``progressed`` hears of every chunk."""
        self.next_block = 0
        self.pinned: Pinned | None = None
        self._host = host
        self._departure = departure
        self._link = link
        self._progress = progress
        self._progressed = progressed
        self._transfer: KvTransfer = host.ways.transfer(WITH_MESSAGES)
        self._copying: asyncio.Task[None] | None = None

    @property
    def block_bytes(self) -> int:
        return self._host.info.block_size_tokens * self._host.info.kv_bytes_per_token

    def agree_on(self, way: str) -> None:
        """The destination has chosen how it wants to get the bytes."""
        self._transfer = self._host.ways.transfer(way)

    def taken(self, place: str) -> None:
        self._transfer.taken(place)

    def place_tail(self, tail: Buffer) -> str:
        return self._transfer.place_tail(tail)

    async def pin(self) -> None:
        """Pin the full blocks from ``next_block`` on. Raises ``MoveImpossible`` when it is gone."""
        engine = self._host.engine
        asking = engine.pin(self._departure.live.engine_id, self.next_block)
        pinned = await ask(asking, self._host.config.stage_timeout_s, engine.unpin)
        if pinned.state in (RequestState.GONE, RequestState.FROZEN):
            engine.unpin(pinned)
            raise MoveImpossible(f"it is {pinned.state.value}, not running")
        self.unpin()
        self.pinned = pinned

    def room_tokens(self) -> int:
        """What the destination must have room for. Who waits may as well wait there, if all must leave."""
        pinned, info = self.pinned, self._host.info
        assert pinned is not None
        waits = pinned.state is not RequestState.RUNNING and self.next_block == 0
        if waits and self._departure.rule == DRAIN:
            return 1
        return min(pinned.total_tokens + SPARE_BLOCKS * info.block_size_tokens, info.max_model_len)

    @property
    def nothing_to_copy(self) -> bool:
        """Nothing is full yet, or everything is to be copied while it stands still."""
        return self.pinned is None or self.pinned.blocks == 0 or self._host.config.max_stages == 0

    @property
    def urgent(self) -> bool:
        """All must leave, or nobody else decodes here who could be disturbed."""
        return self._departure.rule == DRAIN or self._host.load().running <= 1

    def copy(self, stage: int, failed: Callable[[Exception], None]) -> None:
        """Begin to send what is pinned; the destination says when it is in."""
        assert self.pinned is not None
        self._copying = asyncio.create_task(self._send(self.pinned, stage, failed))

    async def _send(self, pinned: Pinned, number: int, failed: Callable[[Exception], None]) -> None:
        engine = self._host.engine

        def fill(part: Span, target: memoryview) -> None:
            engine.read(pinned, part.first_block, part.blocks, target)

        parts = list(spans(pinned.first_block, pinned.blocks, self.block_bytes))
        stage = Stage(
            self._departure.migration_id, number, parts, self.block_bytes, fill, self.urgent, self._progressed
        )
        try:
            self._progress.stage_bytes = await self._transfer.send(self._link, stage)
        except Exception as error:
            failed(error)

    async def end_stage(self) -> bool:
        """All blocks of a stage are in: pin what was made meanwhile. True: what is left is one step's work.

        Raises ``MoveImpossible`` as :meth:`pin`.
        """
        copied = self.pinned
        assert copied is not None
        self.next_block = copied.first_block + copied.blocks
        self._transfer.all_taken()
        duration_s = time.perf_counter() - self._progress.stage_began_at
        await self.pin()
        assert self.pinned is not None
        self._progress.end_stage(copied, self.pinned, duration_s)
        return self._is_one_steps_work(self.pinned.blocks, duration_s / copied.blocks)

    def _is_one_steps_work(self, blocks: int, block_s: float) -> bool:
        """Whether so many blocks, at the pace of the last stage, travel within a mean step."""
        load = self._host.load()
        step_s = load.step_seconds_total / max(1, load.steps_total)
        return blocks <= ONE_STEPS_BLOCKS or blocks * block_s <= step_s

    def unpin(self) -> None:
        pinned, self.pinned = self.pinned, None
        if pinned is not None:
            self._host.engine.unpin(pinned)

    def stop(self) -> None:
        """Send nothing more of this stage."""
        if self._copying is not None:
            self._copying.cancel()

    async def close(self) -> None:
        """Everything that was pinned or laid down is given back."""
        if self._copying is not None:
            self._copying.cancel()
            await asyncio.gather(self._copying, return_exceptions=True)
        self._transfer.close()
        self.unpin()
