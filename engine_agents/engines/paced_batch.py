"""The paced engine's requests: continuous batching over real KV blocks, no threads and no clock.

Shaped like vLLM's scheduler: requests are admitted by (rank, arrival), prefills
are chunked to a token budget, decodes take a block when they cross into it, and
when none is free the request of the highest (rank, arrival) is preempted: it
loses its KV and waits again, its tokens stay.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine_agents.engines.paced_memory import Geometry, KvMemory, OutOfBlocksError
from engine_agents.engines.paced_requests import (
    Made,
    PacedLive,
    PacedOptions,
    PacedReservation,
    live_request,
)
from engine_agents.engines.paced_wire import (
    FINISHED_LENGTH,
    FINISHED_STOP,
    PacedImage,
    PacedState,
    kv_value,
    next_token,
)
from engine_agents.engines.port import Frozen, MoveImpossible, RequestState


class PacedBatch:
    """All requests of one engine. Every method runs on the engine's thread; none blocks."""

    def __init__(self, options: PacedOptions, total_blocks: int) -> None:
        self.options = options
        self.memory = KvMemory(Geometry(total_blocks, options.block_size_tokens, options.kv_bytes_per_token))
        self.live: dict[str, PacedLive] = {}
        self.running: list[PacedLive] = []
        self.waiting: list[PacedLive] = []
        self.reservations: list[PacedReservation] = []
        self.withdrawn: dict[str, RequestState] = {}
        """Requests on their way out that wait, and how they waited."""
        self.preemptions_total = 0

    # ---- serving

    def room_tokens(self) -> int:
        """Tokens that a new request may bring and start at once."""
        if len(self.running) + len(self.reservations) >= self.options.max_num_seqs:
            return 0
        blocks = self.memory.free_blocks - self.queued_blocks()
        return max(0, blocks) * self.options.block_size_tokens

    def queued_blocks(self) -> int:
        return sum(self.demand_blocks(live) for live in self.waiting)

    def demand_blocks(self, live: PacedLive) -> int:
        return self.memory.geometry.blocks_for(len(live.tokens) + 1)

    def add(self, live: PacedLive) -> None:
        """Raises ``ValueError`` for what can never run here."""
        if live.engine_id in self.live:
            raise ValueError(f"{live.engine_id} is already here")
        if len(live.tokens) >= self.options.max_model_len:
            raise ValueError(f"{len(live.tokens)} tokens; max_model_len is {self.options.max_model_len}")
        if self.demand_blocks(live) > self.memory.geometry.blocks:
            raise ValueError(
                f"{len(live.tokens)} tokens do not fit into {self.memory.geometry.blocks} blocks"
            )
        self.live[live.engine_id] = live
        self._queue(live)

    def abort(self, engine_id: str) -> None:
        live = self.live.get(engine_id)
        if live is not None:
            self._forget(live)

    def set_rank(self, engine_id: str, rank: int, slo_class: str = "") -> None:
        live = self.live.get(engine_id)
        if live is not None:
            live.rank = rank
            live.image.slo_class = slo_class or live.image.slo_class
            self.waiting.sort(key=lambda one: one.order)

    def schedule(self) -> tuple[list[tuple[PacedLive, int]], list[PacedLive]]:
        """``[(request, tokens to compute)]`` of the next step, and who was preempted for it."""
        budget = self.options.max_num_batched_tokens
        planned: list[tuple[PacedLive, int]] = []
        preempted: list[PacedLive] = []
        for live in list(self.running):
            count = min(len(live.tokens) - live.computed, budget)
            if live in preempted or count == 0 or not self._grow(live, count, preempted):
                continue
            planned.append((live, count))
            budget -= count
        if not preempted:
            planned += self._admit(budget)
        return [(live, count) for live, count in planned if live not in preempted], preempted

    def compute(self, planned: list[tuple[PacedLive, int]]) -> list[Made]:
        """Write KV, sample where the last known token has been computed, drop what is finished."""
        return [made for live, count in planned for made in self._advance(live, count)]

    # ---- moving out

    def freeze(self, engine_id: str, first_block: int) -> Frozen:
        live = self.get(engine_id)
        if live.state is not RequestState.RUNNING:
            raise MoveImpossible(f"it is {live.state.value}, not running")
        self.running.remove(live)
        live.state = RequestState.FROZEN
        blocks = live.blocks[first_block : self.memory.geometry.blocks_for(live.computed)]
        return self._taken(live, first_block, blocks)

    def withdraw(self, engine_id: str, first_block: int) -> Frozen:
        live = self.get(engine_id)
        if live.state not in (RequestState.WAITING, RequestState.PREEMPTED):
            raise MoveImpossible(f"it is {live.state.value}, not waiting")
        self.waiting.remove(live)
        self.withdrawn[engine_id] = live.state
        live.state = RequestState.FROZEN
        return self._taken(live, first_block, [])

    def _taken(self, live: PacedLive, first_block: int, blocks: list[int]) -> Frozen:
        """Copied blocks count even where this side lost them since."""
        copied = first_block * self.options.block_size_tokens
        return Frozen(
            engine_id=live.engine_id,
            first_block=first_block,
            blocks=len(blocks),
            tail=self.memory.read(blocks),
            state=msgspec.msgpack.encode(PacedState(live.sampler.state)),
            output_token_ids=tuple(live.tokens[live.prompt_tokens :]),
            computed_tokens=max(live.computed, copied),
        )

    def thaw(self, engine_id: str) -> None:
        live = self.live.get(engine_id)
        if live is None or live.state is not RequestState.FROZEN:
            return
        waited = self.withdrawn.pop(engine_id, None)
        live.state = waited or RequestState.RUNNING
        if waited:
            self._queue(live)
        else:
            self.running.append(live)

    def release(self, engine_id: str) -> None:
        live = self.live.get(engine_id)
        if live is not None and live.state is RequestState.FROZEN:
            self._forget(live)

    # ---- moving in

    def hold(self, client: str, new_engine_id: str, image: bytes, total_tokens: int) -> PacedReservation:
        if new_engine_id in self.live:
            raise MoveImpossible(f"{new_engine_id} is already here")
        if len(self.running) + len(self.reservations) >= self.options.max_num_seqs:
            raise MoveImpossible("the batch is full")
        try:
            live = live_request(new_engine_id, client, msgspec.msgpack.decode(image, type=PacedImage), [])
        except ValueError as error:
            raise MoveImpossible(f"invalid image: {error}") from error
        reservation = PacedReservation(new_engine_id, live, self._take_held(total_tokens, 0))
        self.reservations.append(reservation)
        return reservation

    def extend(self, reservation: PacedReservation, total_tokens: int) -> None:
        if reservation.active:
            reservation.held += self._take_held(total_tokens, reservation.blocks)

    def write(
        self, reservation: PacedReservation, first_block: int, data: bytes | bytearray | memoryview
    ) -> None:
        """Any thread. Raises :class:`MoveImpossible` for bytes that do not belong into the reservation."""
        blocks, rest = divmod(len(data), self.memory.geometry.block_bytes)
        with reservation.lock:
            if not reservation.active:
                raise MoveImpossible("the reservation is gone")
            if rest or first_block < 0 or first_block + blocks > reservation.blocks:
                raise MoveImpossible(f"{len(data)} bytes at block {first_block} do not fit the reservation")
            self.memory.write(reservation.held[first_block : first_block + blocks], data)
            reservation.written.update(range(first_block, first_block + blocks))

    def adopt(self, reservation: PacedReservation, frozen: Frozen) -> None:
        live = reservation.live
        self.write(reservation, frozen.first_block, frozen.tail)
        needed = self.memory.geometry.blocks_for(frozen.computed_tokens)
        missing = set(range(needed)) - reservation.written
        if missing:
            raise MoveImpossible(f"KV of block {min(missing)} is missing")
        state = msgspec.msgpack.decode(frozen.state, type=PacedState)
        self._end(reservation)
        live.blocks, surplus = reservation.held[:needed], reservation.held[needed:]
        self.memory.give_back(surplus)
        live.tokens += frozen.output_token_ids
        live.computed, live.sampler.state = frozen.computed_tokens, state.sampler
        self.live[live.engine_id] = live
        if not live.blocks:
            self._queue(live)
            return
        live.state = RequestState.RUNNING
        self.running.append(live)

    def drop(self, reservation: PacedReservation) -> None:
        if reservation.active:
            self._end(reservation)
            self.memory.give_back(reservation.held)

    # ---- inside

    def get(self, engine_id: str) -> PacedLive:
        """Raises :class:`MoveImpossible` when it is not here (any more)."""
        live = self.live.get(engine_id)
        if live is None:
            raise MoveImpossible("it is not here: finished, aborted or never added")
        return live

    def _end(self, reservation: PacedReservation) -> None:
        with reservation.lock:
            reservation.active = False
        self.reservations.remove(reservation)

    def _take_held(self, total_tokens: int, already: int) -> list[int]:
        try:
            return self.memory.take(max(0, self.memory.geometry.blocks_for(total_tokens) - already))
        except OutOfBlocksError as error:
            raise MoveImpossible(f"no room: {error}") from error

    def _queue(self, live: PacedLive) -> None:
        self.waiting.append(live)
        self.waiting.sort(key=lambda one: one.order)

    def _forget(self, live: PacedLive) -> None:
        self.live.pop(live.engine_id)
        self.withdrawn.pop(live.engine_id, None)
        for queue in (self.running, self.waiting):
            if live in queue:
                queue.remove(live)
        self.memory.give_back(live.blocks)
        live.blocks, live.state = [], RequestState.GONE

    def _admit(self, budget: int) -> Iterator[tuple[PacedLive, int]]:
        while self.waiting and budget > 0 and len(self.running) < self.options.max_num_seqs:
            live = self.waiting[0]
            try:
                live.blocks = self.memory.take(self.demand_blocks(live))
            except OutOfBlocksError:
                return
            self.waiting.pop(0)
            live.state = RequestState.RUNNING
            self.running.append(live)
            count = min(len(live.tokens) - live.computed, budget)
            budget -= count
            yield live, count

    def _grow(self, live: PacedLive, count: int, preempted: list[PacedLive]) -> bool:
        """Blocks for ``count`` more tokens, preempting others or, last, itself (False)."""
        while True:
            missing = self.memory.geometry.blocks_for(live.computed + count) - len(live.blocks)
            if missing <= 0 or missing <= self.memory.free_blocks:
                live.blocks += self.memory.take(max(0, missing))
                return True
            victim = max(self.running, key=lambda one: one.order)
            self._preempt(victim)
            preempted.append(victim)
            if victim is live:
                return False

    def _preempt(self, live: PacedLive) -> None:
        self.running.remove(live)
        self.memory.give_back(live.blocks)
        live.blocks, live.computed, live.state = [], 0, RequestState.PREEMPTED
        self.preemptions_total += 1
        self._queue(live)

    def _advance(self, live: PacedLive, count: int) -> Iterator[Made]:
        value = self.memory.value(live.blocks, live.computed - 1) if live.computed else 0
        for position in range(live.computed, live.computed + count):
            value = kv_value(value, live.tokens[position])
            self.memory.store(live.blocks, position, value)
        live.computed += count
        if live.computed < len(live.tokens):
            return
        token = next_token(value, live.sampler.draw(), self.options.vocabulary)
        position = live.output_tokens
        live.tokens.append(token)
        reason = self._finish_reason(live, token)
        if reason is not None:
            self._forget(live)
        yield Made(live, position, token, reason)

    def _finish_reason(self, live: PacedLive, token: int) -> int | None:
        if token in (live.sampling.stop_token_ids or ()):
            return FINISHED_STOP
        limit = live.sampling.max_tokens
        if limit is not None and live.output_tokens >= limit:
            return FINISHED_LENGTH
        return FINISHED_LENGTH if len(live.tokens) >= self.options.max_model_len else None
