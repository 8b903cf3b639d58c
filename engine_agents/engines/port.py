"""The Engine protocol: what an agent asks of an engine, whichever engine it is.

An engine runs its steps on a thread of its own. Every operation below that
returns a ``Future`` is executed *between two steps* on that thread (and wakes an
idle engine), so it sees a consistent state; its result is set there. Callbacks
(``on_step``, ``on_preempted``) are called on the engine's thread: hand over, do
not work.

KV blocks are named by their position in the request (0 = the first block of its
tokens), never by the engine's own block ids. A block is *full* when every token
of it has its KV computed; a full block never changes again, so it may be read
while decoding goes on as long as it is pinned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from engine_agents.messages import Add, RequestInfo


class RequestState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    PREEMPTED = "preempted"
    FROZEN = "frozen"
    GONE = "gone"
    """Finished, aborted or never here."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What is fixed from start-up on."""

    engine: str
    engine_version: str
    served_model: str
    max_model_len: int
    block_size_tokens: int
    total_blocks: int
    kv_bytes_per_token: int
    compatibility: str
    """Equal strings: KV blocks and request images of one engine are valid in the other."""


@dataclass(frozen=True, slots=True)
class ClassCount:
    slo_class: str
    running: int
    waiting: int
    used_blocks: int


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """Aggregates as of the end of the last step."""

    used_blocks: int
    reserved_blocks: int
    running: int
    waiting: int
    per_class: tuple[ClassCount, ...]
    head_of_line_blocks: int
    queued_blocks: int
    unprefilled_tokens: int
    preempted_waiting: int
    preemptions_total: int
    steps_total: int
    step_seconds_total: float
    tokens_total: int


@dataclass(frozen=True, slots=True)
class StepOutputs:
    """Outputs of one step for one client (gateway), in the engine's own encoding."""

    client: str
    engine_ids: tuple[str, ...]
    starts: tuple[int, ...]
    payload: bytes
    finished: tuple[str, ...]
    """Those of ``engine_ids`` that are over."""


@dataclass(frozen=True, slots=True)
class AddOutcome:
    accepted: bool
    reason: str = ""
    room_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pinned:
    """Full blocks ``first_block … first_block+blocks-1`` of a request, pinned against reuse."""

    engine_id: str
    state: RequestState
    first_block: int
    blocks: int
    handle: object = field(repr=False)
    output_tokens: int = 0
    total_tokens: int = 0
    computed_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    """A request taken out of the batch: what the destination needs to go on, in one piece."""

    engine_id: str
    first_block: int
    """First block of ``tail``."""
    blocks: int
    tail: bytes | bytearray
    """KV of blocks ``first_block …``, the last one possibly partial."""
    state: bytes
    """Sampler state and what else the engine must carry, engine's own encoding."""
    output_token_ids: tuple[int, ...]
    computed_tokens: int


class MoveImpossible(Exception):  # noqa: N818 - a state of the world, not an error
    """The operation cannot be done for this request now; ``str(self)`` is the reason for people."""


class Reservation(Protocol):
    """Room held at a destination for one incoming request; opaque but for these."""

    engine_id: str
    blocks: int


class Engine(Protocol):
    """One serving engine. Constructed cheaply; :meth:`start` does the loading."""

    def start(
        self,
        *,
        on_step: Callable[[Sequence[StepOutputs]], None],
        on_preempted: Callable[[str], None],
    ) -> EngineInfo:
        """Load, warm up, start stepping. Blocks until ready; raises with a sentence for people."""

    def stop(self) -> None: ...

    def load(self) -> EngineLoad:
        """Any thread; costs microseconds."""

    def requests(self) -> Future[list[RequestInfo]]: ...

    # ---- serving

    def add(self, client: str, request: Add) -> Future[AddOutcome]: ...

    def abort(self, engine_ids: Sequence[str]) -> Future[None]: ...

    def set_rank(self, engine_ids: Sequence[str], rank: int, slo_class: str = "") -> Future[None]:
        """Change urgency, and the class counted under unless it is empty; unknown ids are ignored."""

    # ---- migration, source side

    def image(self, engine_id: str) -> Future[bytes]:
        """The request as first sent, for :meth:`hold`. Raises ``MoveImpossible`` for what cannot move."""

    def pin(self, engine_id: str, first_block: int) -> Future[Pinned]:
        """Pin the full blocks from ``first_block`` on; may be none (``blocks == 0``)."""

    def read(self, pinned: Pinned, first: int, count: int, target: memoryview) -> None:
        """Lay ``count`` pinned blocks from ``first`` into ``target``; any thread, not between steps.

        Raises ``ValueError`` when they are not pinned or ``target`` has another length.
        """

    def unpin(self, pinned: Pinned) -> Future[None]: ...

    def freeze(self, engine_id: str, first_block: int) -> Future[Frozen]:
        """Take the request out of the batch and hand out its tail, in one operation.

        Raises ``MoveImpossible`` when it is not running (finished, pre-empted, …). Blocks before
        ``first_block`` that were copied stay good even if this side has lost them since:
        ``computed_tokens`` is never below them.
        """

    def withdraw(self, engine_id: str, first_block: int) -> Future[Frozen]:
        """As :meth:`freeze`, for a request that waits or was pre-empted: its tokens and state, no tail.

        What was copied before (``first_block`` blocks) is not computed again at the destination.
        With none the destination puts it into its queue. Raises ``MoveImpossible`` when it is
        not waiting.
        """

    def thaw(self, engine_id: str) -> Future[None]:
        """Undo :meth:`freeze`: the request goes on here as if nothing had been."""

    def release(self, engine_id: str) -> Future[None]:
        """Forget a frozen request without any output: it lives elsewhere now."""

    # ---- migration, destination side

    def hold(self, client: str, new_engine_id: str, image: bytes, total_tokens: int) -> Future[Reservation]:
        """Reserve blocks for ``total_tokens``. Raises ``MoveImpossible`` when there is no room."""

    def extend(self, reservation: Reservation, total_tokens: int) -> Future[None]:
        """Grow a reservation. Raises ``MoveImpossible`` (the reservation stays)."""

    def write(
        self, reservation: Reservation, first_block: int, blocks: int, data: bytes | memoryview
    ) -> None:
        """Fill reserved blocks; any thread."""

    def adopt(self, reservation: Reservation, frozen: Frozen) -> Future[None]:
        """The request runs here now, from the token after ``frozen.output_token_ids``."""

    def drop(self, reservation: Reservation) -> Future[None]:
        """Free a reservation that will not be used."""
