"""The simulated engine on the wall clock, behind the real Engine protocol.

Its batching, its KV blocks and their copying are real; only the arithmetic of
the model is replaced by a hash and the duration of a step by a formula. It
always calls itself ``simulated``. Used where many instances or exact tokens are
wanted: benchmarks, tests of migration and of the gateway.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import groupby
from typing import Any, TypeVar, cast

import msgspec

from engine_agents.config import AgentConfig
from engine_agents.engines.paced_batch import PacedBatch
from engine_agents.engines.paced_reports import Totals, describe, information, measure, outputs_of
from engine_agents.engines.paced_requests import (
    Made,
    PacedLive,
    PacedOptions,
    PacedReservation,
    live_request,
)
from engine_agents.engines.paced_wire import PacedImage
from engine_agents.engines.port import (
    AddOutcome,
    EngineInfo,
    EngineLoad,
    Frozen,
    MoveImpossible,
    Pinned,
    Reservation,
    StepOutputs,
)
from engine_agents.messages import Add, RequestInfo, engine_id

T = TypeVar("T")
_ENCODE = msgspec.msgpack.Encoder().encode


def build(config: AgentConfig) -> PacedEngine:
    """The engine of an agent of kind ``paced``; raises ``ValueError`` naming a bad field."""
    return PacedEngine(
        PacedOptions.from_args(config.engine_args),
        served_model=config.served_model,
        kv_memory_bytes=config.kv_memory_bytes,
    )


class PacedEngine:
    """See :class:`engine_agents.engines.port.Engine` for what every public method promises."""

    def __init__(self, options: PacedOptions, *, served_model: str, kv_memory_bytes: int) -> None:
        total_blocks = kv_memory_bytes // (options.block_size_tokens * options.kv_bytes_per_token)
        if total_blocks < 2:
            raise ValueError(
                f"kv_memory_bytes: {kv_memory_bytes} holds {total_blocks} blocks; two are the least"
            )
        self.options = options
        self._served_model = served_model
        self._batch = PacedBatch(options, total_blocks)
        self._operations: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._totals = Totals()
        self._load = measure(self._batch, self._totals)
        self._thread: threading.Thread | None = None

    # ---- life

    def start(
        self,
        *,
        on_step: Callable[[Sequence[StepOutputs]], None],
        on_preempted: Callable[[str], None],
    ) -> EngineInfo:
        self._on_step, self._on_preempted = on_step, on_preempted
        self._thread = threading.Thread(target=self._run, name="paced-engine", daemon=True)
        self._thread.start()
        return information(self._batch, self.options, self._served_model)

    def stop(self) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def load(self) -> EngineLoad:
        return self._load

    # ---- serving

    def requests(self) -> Future[list[RequestInfo]]:
        return self._submit(lambda: [describe(live) for live in self._batch.live.values()])

    def add(self, client: str, request: Add) -> Future[AddOutcome]:
        return self._submit(lambda: self._add(client, request))

    def abort(self, engine_ids: Sequence[str]) -> Future[None]:
        return self._submit(lambda: _each(self._batch.abort, engine_ids))

    def set_rank(self, engine_ids: Sequence[str], rank: int, slo_class: str = "") -> Future[None]:
        return self._submit(lambda: _each(lambda one: self._batch.set_rank(one, rank, slo_class), engine_ids))

    # ---- migration, source side

    def image(self, engine_id: str) -> Future[bytes]:
        return self._submit(lambda: self._image(engine_id))

    def pin(self, engine_id: str, first_block: int) -> Future[Pinned]:
        return self._submit(lambda: self._pin(engine_id, first_block))

    def read(self, pinned: Pinned, first: int, count: int, target: memoryview) -> None:
        blocks = cast("list[int]", pinned.handle)
        start = first - pinned.first_block
        if start < 0 or start + count > len(blocks):
            raise ValueError(f"blocks {first}..{first + count} are not pinned")
        target[:] = self._batch.memory.read(blocks[start : start + count])

    def unpin(self, pinned: Pinned) -> Future[None]:
        return self._submit(lambda: self._batch.memory.give_back(cast("list[int]", pinned.handle)))

    def freeze(self, engine_id: str, first_block: int) -> Future[Frozen]:
        return self._submit(lambda: self._batch.freeze(engine_id, first_block))

    def withdraw(self, engine_id: str, first_block: int) -> Future[Frozen]:
        return self._submit(lambda: self._batch.withdraw(engine_id, first_block))

    def thaw(self, engine_id: str) -> Future[None]:
        return self._submit(lambda: self._batch.thaw(engine_id))

    def release(self, engine_id: str) -> Future[None]:
        return self._submit(lambda: self._batch.release(engine_id))

    # ---- migration, destination side

    def hold(self, client: str, new_engine_id: str, image: bytes, total_tokens: int) -> Future[Reservation]:
        hold = cast("Callable[..., Reservation]", self._batch.hold)
        return self._submit(lambda: hold(client, new_engine_id, image, total_tokens))

    def extend(self, reservation: Reservation, total_tokens: int) -> Future[None]:
        return self._submit(lambda: self._batch.extend(_own(reservation), total_tokens))

    def write(
        self, reservation: Reservation, first_block: int, blocks: int, data: bytes | memoryview
    ) -> None:
        if len(data) != blocks * self._batch.memory.geometry.block_bytes:
            raise MoveImpossible(f"{len(data)} bytes are not {blocks} blocks")
        self._batch.write(_own(reservation), first_block, data)

    def adopt(self, reservation: Reservation, frozen: Frozen) -> Future[None]:
        return self._submit(lambda: self._batch.adopt(_own(reservation), frozen))

    def drop(self, reservation: Reservation) -> Future[None]:
        return self._submit(lambda: self._batch.drop(_own(reservation)))

    # ---- the engine's thread

    def _submit(self, operation: Callable[[], T]) -> Future[T]:
        """Run ``operation`` between two steps; its result or exception goes into the future."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = operation()
            except Exception as error:
                future.set_exception(error)
            else:
                self._load = measure(self._batch, self._totals)
                future.set_result(result)

        with self._wake:
            if self._stopping:
                future.set_exception(MoveImpossible("the engine is stopping"))
                return future
            self._operations.append(run)
            self._wake.notify()
        return future

    def _run(self) -> None:
        while not self._stopping:
            self._run_operations()
            if not self._step():
                self._wait_for_work()
        self._run_operations()

    def _run_operations(self) -> None:
        while self._operations:
            self._operations.popleft()()

    def _wait_for_work(self) -> None:
        with self._wake:
            self._wake.wait_for(lambda: self._operations or self._stopping)

    def _step(self) -> bool:
        """One engine step; False when there was nothing to do."""
        started = time.monotonic()
        planned, preempted = self._batch.schedule()
        if not planned and not preempted:
            return False
        made = self._batch.compute(planned)
        self._pace(started, planned)
        self._count(time.monotonic() - started, made)
        self._tell(made, preempted)
        return True

    def _pace(self, started: float, planned: list[tuple[PacedLive, int]]) -> None:
        """Sleep until the step has lasted as long as the model says."""
        options = self.options
        prefill = sum(count for _, count in planned if count > 1)
        cost_ms = (
            options.base_step_ms
            + options.per_sequence_ms * len(planned)
            + options.per_prefill_token_ms * prefill
        )
        if options.per_context_token_ms:
            cost_ms += options.per_context_token_ms * sum(live.computed for live, _ in planned)
        time.sleep(max(0.0, started + cost_ms / 1e3 - time.monotonic()))

    def _count(self, seconds: float, made: list[Made]) -> None:
        self._totals.steps += 1
        self._totals.step_seconds += seconds
        self._totals.tokens += len(made)
        self._load = measure(self._batch, self._totals)

    def _tell(self, made: list[Made], preempted: list[PacedLive]) -> None:
        for live in preempted:
            self._on_preempted(live.engine_id)
        ordered = sorted(made, key=lambda one: one.live.client)
        outputs = [
            outputs_of(client, list(group)) for client, group in groupby(ordered, lambda m: m.live.client)
        ]
        if outputs:
            self._on_step(outputs)

    def _add(self, client: str, request: Add) -> AddOutcome:
        image = PacedImage(
            engine_request=request.engine_request,
            slo_class=request.slo_class,
            tenant=request.tenant,
            rank=request.rank,
            arrived_at_s=time.time(),
        )
        try:
            live = live_request(
                engine_id(request.request_id, request.dispatch), client, image, request.prior_token_ids
            )
            room = self._batch.room_tokens()
            if request.only_if_fits and len(live.tokens) + 1 > room:
                return AddOutcome(accepted=False, reason="no_room", room_tokens=room)
            self._batch.add(live)
        except ValueError as error:
            return AddOutcome(
                accepted=False, reason=f"invalid: {error}", room_tokens=self._batch.room_tokens()
            )
        return AddOutcome(accepted=True, room_tokens=self._batch.room_tokens())

    def _image(self, engine_id: str) -> bytes:
        live = self._batch.get(engine_id)
        live.image.rank = live.rank
        return _ENCODE(live.image)

    def _pin(self, engine_id: str, first_block: int) -> Pinned:
        live = self._batch.get(engine_id)
        full = live.computed // self.options.block_size_tokens
        blocks = live.blocks[first_block:full]
        self._batch.memory.pin(blocks)
        return Pinned(
            engine_id=engine_id,
            state=live.state,
            first_block=first_block,
            blocks=len(blocks),
            handle=blocks,
            output_tokens=live.output_tokens,
            total_tokens=len(live.tokens),
            computed_tokens=live.computed,
        )


def _own(reservation: Reservation) -> PacedReservation:
    return cast("PacedReservation", reservation)


def _each(operation: Callable[[str], Any], values: Sequence[str]) -> None:
    for value in values:
        operation(value)
