"""What the sessions of a migration need from the agent around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from engine_agents.config import AgentConfig
from engine_agents.engines.port import Engine, EngineInfo, EngineLoad
from engine_agents.live_requests import LiveRequest, LiveRequests
from engine_agents.messages import (
    Message,
    MigrationOutcome,
    ToSource,
)
from engine_agents.migration.transfer import Buffer
from engine_agents.migration.ways import Ways


class LinkLost:
    """Told to the migrations of a connection when it breaks."""


class SourceLink(Protocol):
    """A source's connection to the destination; see ``PeerConnection``."""

    def register(self, migration_id: str, listener: Callable[[ToSource | LinkLost], None]) -> None: ...

    def unregister(self, migration_id: str) -> None: ...

    async def send(self, message: Message, frame: Buffer | None = None, *, within_s: float) -> bool:
        """False when the peer is not connected within the time."""

    def post(self, message: Message) -> None:
        """Send if it is connected now; nobody waits."""

    async def send_bulk(self, message: Message, frame: Buffer | None) -> None:
        """Data; waits while the peer is behind."""


class MoveHost(Protocol):
    """The agent, as a migration sees it. All on the agent's event loop."""

    config: AgentConfig
    engine: Engine
    live: LiveRequests
    ways: Ways

    @property
    def info(self) -> EngineInfo: ...

    def load(self) -> EngineLoad: ...

    def count(self, name: str) -> None: ...

    def send_to_gateway(self, client: str, message: Message) -> bool:
        """False when that gateway is not connected."""

    def report(self, outcome: MigrationOutcome) -> None: ...

    def left(self, engine_id: str) -> None:
        """The request lives elsewhere now."""

    def arrived(self, live: LiveRequest) -> None:
        """The request lives here now."""

    def set_rank(self, engine_ids: Sequence[str], rank: int, slo_class: str = "") -> None:
        """Its urgency changed on the way."""
