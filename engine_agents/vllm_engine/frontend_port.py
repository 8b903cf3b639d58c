"""What passes between a gateway and an engine's front half; free of vLLM, so that importing it is cheap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FrontHalfConfig:
    """What the front half must know of the model before any engine is there."""

    model: str
    """Path or hub name: tokenizer, chat template and model configuration are read from it."""
    served_model: str
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    """The engines' own arguments (vLLM's ``EngineArgs``): what shapes requests must agree."""


@dataclass(frozen=True, slots=True)
class NewRequest:
    """One request for an engine, as the front half made it. ``n`` choices are ``n`` of these."""

    request_id: str
    """The front half's own id, unique; outputs are delivered under it."""
    engine_request: bytes
    """Opaque: the engine's own encoding."""
    prompt_tokens: int
    max_tokens: int
    gap_closable: bool
    """True when bare tokens are all the client's side needs (no log-probabilities)."""


class FrontHalfError(Exception):
    """The front half cannot be built; ``str(self)`` says what to change."""


class AdmissionRefusedError(Exception):
    """A request is not taken now. ``str(self)`` is for people."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EngineClientPort(Protocol):
    """What the front half asks of the gateway; called on the event loop, must not block."""

    def check_admission(self, count: int) -> None:
        """Raises :class:`AdmissionRefusedError` where ``count`` more requests cannot be taken."""

    def add(self, request: NewRequest) -> None:
        """Take a request; failures come later, by :meth:`FrontHalf.fail`."""

    def abort(self, request_ids: Sequence[str]) -> None:
        """The client left; ids that are not live are ignored."""

    def stopped(self, request_ids: Sequence[str]) -> None:
        """The front half itself ended these (a stop string was found)."""


class FrontHalf(Protocol):
    """vLLM's front half, as the gateway sees it."""

    app: AsgiApp
    engine_version: str
    max_model_len: int

    def decode(self, payload: bytes) -> Sequence[Any]:
        """The outputs of one step message, in its order; each has ``new_token_ids`` and ``finish_reason``."""

    def deliver(self, outputs: Sequence[Any]) -> None:
        """Pass outputs on to their clients."""

    def fail(self, request_id: str, status: int, message: str) -> None:
        """End a request, and the choices it is one of, with a typed error."""

    def trim(self, output: Any, skip: int) -> Any: ...

    def tokens_only(self, request_id: str, token_ids: list[int]) -> Any: ...

    def continued(self, output: Any) -> Any: ...

    def close(self) -> None: ...
