"""What the journal keeps of a request, and what it says: entries, moves that are under way, effects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


class TokenOutput(Protocol):
    """What the journal needs of an engine's output; vLLM's ``EngineCoreOutput`` fits."""

    request_id: str
    new_token_ids: list[int]
    finish_reason: Any
    """``None`` while it goes on; ``str(finish_reason)`` is ``stop``, ``length``, ``abort``, ``error`` …"""


class OutputEditor(Protocol):
    """Changes to outputs that need the engine's own types."""

    def trim(self, output: Any, skip: int) -> Any:
        """Without its first ``skip`` tokens and all that belongs to them."""

    def tokens_only(self, request_id: str, token_ids: list[int]) -> Any:
        """An output made of bare tokens."""

    def continued(self, output: Any) -> Any:
        """The first output of another engine, without what the client's side already has of the prompt."""


@dataclass(frozen=True, slots=True)
class AbortAt:
    """Tell this instance to stop this incarnation, if it is there."""

    instance_id: str
    engine_id: str


@dataclass(frozen=True, slots=True)
class Recover:
    """Nobody runs this request any more: dispatch it again with its tokens."""

    request_id: str
    reason: str
    failed_at: str = ""
    """The instance whose engine ended it by an error, if that is why."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An engine ended this request; its entry is closed."""

    entry: Entry
    outcome: str


Action = AbortAt | Recover | Finished


@dataclass(slots=True)
class Effects:
    """What follows from one message: outputs for the client's side first, then actions, in order."""

    deliver: list[Any] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)


@dataclass(slots=True)
class Pending:
    """A move that was granted and is not over."""

    migration_id: str
    dispatch: int
    destination_id: str
    running: bool = False
    """The destination is known to have adopted the request."""
    start: int = 0
    """First output position that the destination makes."""
    token_ids: list[int] | None = None
    """All output tokens before ``start``, as the destination says; ``None``: it has not said."""
    held: list[tuple[int, Any]] = field(default_factory=list)
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class Suspicion:
    """An owner that may have handed the request over unheard: it must make tokens until ``deadline_s``."""

    entry: Entry
    owner: int
    tokens: int
    deadline_s: float
    spans: int


@dataclass(slots=True, eq=False)
class Entry:
    """One live request."""

    request_id: str
    gap_closable: bool
    """False where bare tokens are not enough for the client's side (log-probabilities were asked for)."""
    tokens: list[int] = field(default_factory=list)
    owner: int = 0
    """Dispatch number whose tokens count; 0 while nobody runs it."""
    owner_id: str = ""
    owner_gone: bool = False
    issued: int = 0
    """Highest dispatch number given out."""
    pending: Pending | None = None
    moved_from: int = 0
    """Dispatch number that handed over to ``owner``."""
    fresh_owner: bool = False
    instances: list[str] = field(default_factory=list)
    moves: int = 0
    recoveries: int = 0
    engine_id: str = ""
    """The owner's incarnation; empty without one."""
