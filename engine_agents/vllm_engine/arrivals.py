"""The destination side of live migration: reserve blocks, fill them, adopt the request or drop it.

A reserved request has blocks and a slot of the model runner, but is unknown to the
scheduler's queues until it is adopted. Everything but :meth:`Arrivals.write` runs on
the engine's thread, between steps; a lock per reservation fences writers off before
its blocks are freed or run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.v1.request import Request, RequestStatus

from engine_agents.engines.port import Frozen, MoveImpossible, Reservation
from engine_agents.vllm_engine import images
from engine_agents.vllm_engine.departures import blocks_for
from engine_agents.vllm_engine.kv_blocks import Blocks
from engine_agents.vllm_engine.live import LiveRequest
from engine_agents.vllm_engine.scheduler import MovingScheduler
from engine_agents.vllm_engine.worker import RequestStates

GRAMMAR_WAIT_S = 2.0
"""How long an adoption may wait for the request's grammar, whose compilation began at the reservation."""


@dataclass(slots=True, eq=False)
class HeldRequest:
    """A reservation; what the port shows of it is ``engine_id`` and ``blocks``."""

    engine_id: str
    blocks: int
    request: Request
    live: LiveRequest
    block_ids: list[int]
    written: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: bool = True


class Arrivals:
    """Requests on their way into one engine."""

    def __init__(self, scheduler: MovingScheduler, states: RequestStates, store: Blocks) -> None:
        self._scheduler = scheduler
        self._states = states
        self._store = store
        self._held: dict[str, HeldRequest] = {}

    def reserved_blocks(self) -> int:
        """Blocks held for requests that have not been adopted yet."""
        return sum(held.blocks for held in self._held.values())

    def hold(
        self, engine_id: str, total_tokens: int, make: Callable[[], tuple[Request, LiveRequest]]
    ) -> HeldRequest:
        """Reserve a slot and blocks for ``total_tokens``. Raises ``MoveImpossible``."""
        self._check_free(engine_id)
        request, live = make()
        self._allocate(request, total_tokens)
        block_ids = list(self._scheduler.kv_cache_manager.get_block_ids(engine_id)[0])
        held = HeldRequest(engine_id, len(block_ids), request, live, block_ids)
        self._held[engine_id] = held
        self._count_slots()
        return held

    def extend(self, reservation: Reservation, total_tokens: int) -> None:
        """Grow to ``total_tokens``. Raises ``MoveImpossible``; the reservation stays as it was."""
        held = self._open(reservation)
        self._allocate(held.request, total_tokens)
        with held.lock:
            held.block_ids = list(self._scheduler.kv_cache_manager.get_block_ids(held.engine_id)[0])
            held.blocks = len(held.block_ids)

    def write(
        self, reservation: Reservation, first_block: int, blocks: int, data: bytes | bytearray | memoryview
    ) -> None:
        """Fill reserved blocks; any thread. Raises ``MoveImpossible`` when the reservation is over,
        ``ValueError`` when the blocks are not reserved or the data has the wrong length."""
        held = _as_held(reservation)
        with held.lock:
            if not held.open:
                raise MoveImpossible("the reservation is over")
            if first_block < 0 or blocks < 0 or first_block + blocks > held.blocks:
                raise ValueError(f"blocks {first_block} to {first_block + blocks - 1} are not reserved")
            self._store.scatter(held.block_ids[first_block : first_block + blocks], data)
            held.written.update(range(first_block, first_block + blocks))

    def adopt(self, reservation: Reservation, frozen: Frozen) -> None:
        """The request runs here now. Raises ``MoveImpossible``; the reservation then stays."""
        held = self._open(reservation)
        if frozen.computed_tokens == 0 and frozen.blocks == 0:
            self._adopt_waiting(held, frozen)
            return
        generator = self._check_adoption(held, frozen)
        if frozen.blocks:
            self.write(held, frozen.first_block, frozen.blocks, frozen.tail)
        state = images.decode_sampler_state(frozen.state)
        request = held.request
        request.append_output_token_ids(list(frozen.output_token_ids))
        try:
            self._resume_grammar(request, state)
        except MoveImpossible:
            _take_back_tokens(request)
            raise
        request.num_computed_tokens = frozen.computed_tokens
        block_ids = self._scheduler.kv_cache_manager.get_block_ids(held.engine_id)
        self._states.create(request, block_ids, generator)
        held.live.delivered_tokens = len(frozen.output_token_ids)
        self._close(held)
        self._scheduler.kv_cache_manager.cache_blocks(request, frozen.computed_tokens)
        self._scheduler.add_running(request, held.live)

    def _adopt_waiting(self, held: HeldRequest, frozen: Frozen) -> None:
        """A request that waited there waits here: its tokens are computed again when its turn comes."""
        generator = self._generator(held.request, frozen)
        request, live = held.request, held.live
        self._close(held)
        self._scheduler.kv_cache_manager.free(request)
        live.delivered_tokens = len(frozen.output_token_ids)
        if not frozen.output_token_ids:
            self._scheduler.add_new(request, live)
            return
        request.append_output_token_ids(list(frozen.output_token_ids))
        self._states.create(request, ([],), generator or self._states.generator_after(request))
        self._scheduler.add_resumed(request, live)

    def drop(self, reservation: Reservation) -> None:
        """Free a reservation; a second time, or after adoption, does nothing."""
        held = _as_held(reservation)
        if self._held.get(held.engine_id) is not held:
            return
        self._close(held)
        self._scheduler.kv_cache_manager.free(held.request)

    def drop_all(self) -> None:
        """Free every reservation (the engine stops)."""
        for held in list(self._held.values()):
            self.drop(held)

    def _check_free(self, engine_id: str) -> None:
        if engine_id in self._held or engine_id in self._scheduler.requests:
            raise MoveImpossible(f"{engine_id} is here already")
        if self._scheduler.free_slots <= 0:
            raise MoveImpossible(f"all {self._scheduler.max_num_running_reqs} slots are taken")

    def _allocate(self, request: Request, total_tokens: int) -> None:
        if total_tokens > self._scheduler.max_model_len:
            raise MoveImpossible(f"{total_tokens} tokens are more than the model takes")
        manager = self._scheduler.kv_cache_manager
        if manager.allocate_slots(request, max(1, total_tokens), delay_cache_blocks=True) is None:
            needed = blocks_for(total_tokens, self._scheduler.block_size)
            free = manager.block_pool.get_num_free_blocks()
            raise MoveImpossible(f"no room: {needed} blocks are needed in all, {free} are free")

    def _check_adoption(self, held: HeldRequest, frozen: Frozen) -> torch.Generator | None:
        """Raise ``MoveImpossible`` unless all KV is here and fits the tokens; returns the generator."""
        computed = frozen.computed_tokens
        total = held.request.num_prompt_tokens + len(frozen.output_token_ids)
        if not 0 < computed < total:
            raise MoveImpossible(f"{computed} tokens computed of {total} make no sense")
        needed = blocks_for(computed, self._scheduler.block_size)
        if frozen.first_block + frozen.blocks != needed or needed > held.blocks:
            raise MoveImpossible(
                f"the tail ends at block {frozen.first_block + frozen.blocks}, not at {needed}"
            )
        if len(frozen.tail) != frozen.blocks * self._store.bytes_per_block:
            raise MoveImpossible(f"the tail of {frozen.blocks} blocks has {len(frozen.tail)} bytes")
        missing = set(range(frozen.first_block)) - held.written
        if missing:
            raise MoveImpossible(f"{len(missing)} blocks were never written, the first is {min(missing)}")
        return self._generator(held.request, frozen)

    def _generator(self, request: Request, frozen: Frozen) -> torch.Generator | None:
        try:
            state = images.decode_sampler_state(frozen.state)
        except images.InvalidImageError as error:
            raise MoveImpossible(str(error)) from error
        if not state.generator:
            return None
        if state.device != self._states.device.type:
            raise MoveImpossible(
                f"its generator lives on {state.device}, ours would on {self._states.device.type}"
            )
        try:
            return self._states.generator_from(state.generator)
        except (RuntimeError, TypeError) as error:
            raise MoveImpossible(f"its generator state is invalid: {error}") from error

    def _resume_grammar(self, request: Request, state: images.SamplerState) -> None:
        structured = request.structured_output_request
        if structured is None:
            return
        _wait_for_grammar(structured)
        request.status = RequestStatus.WAITING
        if request.num_output_tokens and not self._scheduler.accept_grammar(request):
            raise MoveImpossible("its grammar rejects the tokens made so far")
        if state.reasoning_ended is not None:
            structured.reasoning_ended = state.reasoning_ended

    def _open(self, reservation: Reservation) -> HeldRequest:
        held = _as_held(reservation)
        if self._held.get(held.engine_id) is not held:
            raise MoveImpossible("the reservation is over")
        return held

    def _close(self, held: HeldRequest) -> None:
        """End a reservation: no writer is inside any more, and none will be."""
        with held.lock:
            held.open = False
        del self._held[held.engine_id]
        self._count_slots()

    def _count_slots(self) -> None:
        self._scheduler.arriving_slots = len(self._held)
        self._scheduler.keep_slots()


def _wait_for_grammar(structured: object) -> None:
    pending: Any = getattr(structured, "_grammar", None)
    if hasattr(pending, "result"):
        try:
            pending.result(timeout=GRAMMAR_WAIT_S)
        except Exception as error:  # whatever compilation raised, or the time-out
            raise MoveImpossible(f"its grammar could not be compiled here: {error!r}") from error
    if not getattr(structured, "is_grammar_ready", False):
        raise MoveImpossible("its grammar is not ready here")


def _take_back_tokens(request: Request) -> None:
    """Undo ``append_output_token_ids`` on a request that had none."""
    count = request.num_output_tokens
    del request._output_token_ids[:]
    if count:
        del request._all_token_ids[-count:]
    del request.block_hashes[:]
    request.update_block_hashes()


def _as_held(reservation: Reservation) -> HeldRequest:
    if not isinstance(reservation, HeldRequest):
        raise TypeError("reserved by another kind of engine")
    return reservation
