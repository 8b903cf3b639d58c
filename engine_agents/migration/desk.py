"""All migrations of one agent: takes commands, keeps the slots, brings each message to its session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from engine_agents.engines.port import MoveImpossible
from engine_agents.live_requests import LiveRequest
from engine_agents.messages import (
    AbortMove,
    Chunk,
    Commit,
    Doubt,
    DoubtAnswer,
    GrantMove,
    Message,
    MigrateOut,
    MigrateOutAnswer,
    Owner,
    PlannedMove,
    Refuse,
    RequestInfo,
    Reserve,
    split_engine_id,
)
from engine_agents.migration.arriving import ArrivingMove
from engine_agents.migration.ports import MoveHost, SourceLink
from engine_agents.migration.progress import DRAIN, Departure
from engine_agents.migration.session import OutgoingMove
from engine_agents.selection import Candidate, Choice, choose

logger = logging.getLogger(__name__)


class DeskHost(MoveHost, Protocol):
    """The agent, as its migration desk sees it."""

    @property
    def accepting(self) -> bool: ...

    def gateway_of(self, client: str) -> tuple[str, str] | None:
        """``(gateway_id, incarnation)`` of a connected gateway."""

    def client_of(self, gateway_id: str, incarnation: str) -> str | None:
        """Inverse of :meth:`gateway_of`; ``None`` when that gateway is not connected."""

    def connection(self, endpoint: str) -> SourceLink:
        """Raises ``ValueError`` for a malformed endpoint."""

    def reply(self, reply_to: bytes, message: Message) -> bool: ...

    async def requests(self) -> list[RequestInfo]: ...


class MigrationDesk:
    """Used on the agent's event loop only."""

    def __init__(self, host: DeskHost) -> None:
        self._host = host
        self._outgoing: dict[str, OutgoingMove] = {}
        """By the migration's id."""
        self._arriving: dict[str, ArrivingMove] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- what the agent asks

    @property
    def outgoing(self) -> int:
        return len(self._outgoing)

    @property
    def arriving(self) -> int:
        return sum(not move.over for move in self._arriving.values())

    @property
    def free_slots(self) -> int:
        return self._host.config.migration_slots - self.outgoing - self.arriving

    def leaving(self, engine_id: str) -> OutgoingMove | None:
        return next((move for move in self._outgoing.values() if move.engine_id == engine_id), None)

    def gone(self, engine_id: str, reason: str) -> None:
        """A request ended, was preempted or was aborted here."""
        move = self.leaving(engine_id)
        if move is not None:
            move.gone(reason)

    def aborted(self, engine_id: str, client: str) -> None:
        """Its gateway aborts a request that may still be arriving."""
        for move in self._arriving.values():
            if move.live.engine_id == engine_id and move.live.client == client:
                move.gone()

    def gateway_gone(self, client: str) -> None:
        for move in self._arriving.values():
            if move.live.client == client:
                move.gone()

    def on_verdict(self, verdict: GrantMove | Owner) -> None:
        move = self._outgoing.get(verdict.migration_id)
        if move is None:
            self._host.count("late_messages")
        elif isinstance(verdict, GrantMove):
            move.on_grant(verdict)
        else:
            move.on_owner(verdict)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- commands

    async def migrate_out(self, command: MigrateOut) -> MigrateOutAnswer:
        """Choose who leaves and let them go; returns at once with the plan."""
        refusal = self._refusal(command)
        if refusal:
            return MigrateOutAnswer(accepted=False, reason=refusal)
        try:
            link = self._host.connection(command.destination_peer_endpoint)
        except ValueError as error:
            return MigrateOutAnswer(accepted=False, reason=str(error))
        try:
            choices = self._choose(command, await self._host.requests())
        except (MoveImpossible, ValueError) as error:
            return MigrateOutAnswer(accepted=False, reason=str(error))
        planned = [
            self._start(command, choice, _numbered(command.migration_id, index), link)
            for index, choice in enumerate(choices)
        ]
        kept = [plan for plan in planned if plan is not None]
        reason = "" if kept else "no request that may leave fits the budget"
        return MigrateOutAnswer(accepted=bool(kept), reason=reason, planned=kept)

    def _refusal(self, command: MigrateOut) -> str:
        if command.destination_instance_id == self._host.config.instance_id:
            return "destination_instance_id: is this instance"
        if command.migration_id in self._outgoing:
            return f"migration_id: {command.migration_id} is under way"
        return "" if self.free_slots > 0 else "no free migration slot at the source"

    def _choose(self, command: MigrateOut, rows: list[RequestInfo]) -> tuple[Choice, ...]:
        candidates = [self._candidate(row) for row in rows]
        choices = choose(
            candidates,
            budget_tokens=command.budget_tokens,
            max_requests=max(1, min(command.max_requests, self.free_slots)),
            order=command.order,
            need_tokens=command.need_tokens,
            spare_rank_below=command.spare_rank_below,
            request_id=command.request_id,
            any_stage=command.rule == DRAIN,
        )
        if command.request_id and not choices:
            raise MoveImpossible(_why_not(command.request_id, candidates))
        return choices

    def _candidate(self, row: RequestInfo) -> Candidate:
        live = self._host.live.get(row.engine_id)
        return Candidate(
            engine_id=row.engine_id,
            request_id=row.request_id,
            state=row.state,
            rank=live.rank if live else 0,
            tokens=row.prompt_tokens + row.output_tokens,
            generated_tokens=row.output_tokens,
            arrived_at_s=row.arrived_at_s,
            leaving=live is None or self.leaving(row.engine_id) is not None,
        )

    def _start(
        self, command: MigrateOut, choice: Choice, migration_id: str, link: SourceLink
    ) -> PlannedMove | None:
        live = self._host.live.get(choice.engine_id)
        gateway = self._host.gateway_of(live.client) if live else None
        if live is None or gateway is None or self.leaving(choice.engine_id) is not None:
            return None
        departure = Departure(
            migration_id=migration_id,
            live=live,
            gateway_id=gateway[0],
            gateway_incarnation=gateway[1],
            source_instance_id=self._host.config.instance_id,
            destination_instance_id=command.destination_instance_id,
            rule=command.rule,
            why=choice.why,
        )
        move = OutgoingMove(self._host, departure, link)
        self._outgoing[migration_id] = move
        self._spawn(move.run(), lambda: self._outgoing.pop(migration_id, None))
        return PlannedMove(
            migration_id=migration_id,
            request_id=live.request_id,
            slo_class=live.slo_class,
            tenant=live.tenant,
            tokens=choice.tokens,
            why=choice.why,
        )

    # ---- from sources (PeerDesk)

    async def from_source(
        self,
        reply_to: bytes,
        message: Reserve | Chunk | Commit | AbortMove | Doubt,
        frame: memoryview | None,
    ) -> None:
        move = self._arriving.get(message.migration_id)
        if move is not None:
            await move.put(message, frame)
        elif isinstance(message, Reserve) and message.stage == 0:
            await self._welcome(reply_to, message)
        else:
            self._unknown(reply_to, message)

    async def _welcome(self, reply_to: bytes, reserve: Reserve) -> None:
        client = self._host.client_of(reserve.gateway_id, reserve.gateway_incarnation)
        if client is None:
            self._refuse(reply_to, reserve, f"its gateway {reserve.gateway_id} is not connected here")
            return
        move = ArrivingMove(
            self._host,
            reserve,
            client,
            reply=lambda message: self._host.reply(reply_to, message),
            admit=self._admit,
            admit_adoption=self._admit_adoption,
        )
        await move.put(reserve, None)
        self._arriving[reserve.migration_id] = move
        self._spawn(move.run(), lambda: self._arriving.pop(reserve.migration_id, None))

    def _admit(self, reserve: Reserve) -> str:
        """Why a first reservation is refused, "" if it is not; it already counts as arriving."""
        host = self._host
        if not host.accepting:
            return "draining"
        if reserve.compatibility != host.info.compatibility:
            return f"incompatible: {reserve.compatibility} is not {host.info.compatibility}"
        if self.free_slots < 0:
            return "no free migration slot at the destination"
        return self._stale(reserve.new_engine_id)

    def _admit_adoption(self, live: LiveRequest) -> str:
        """Things may have changed since the reservation."""
        return self._stale(live.engine_id)

    def _stale(self, engine_id: str) -> str:
        try:
            request_id, dispatch = split_engine_id(engine_id)
        except ValueError as error:
            return str(error)
        return "stale_dispatch" if self._host.live.is_stale(request_id, dispatch) else ""

    def _unknown(self, reply_to: bytes, message: Reserve | Chunk | Commit | AbortMove | Doubt) -> None:
        self._host.count("late_messages")
        if isinstance(message, Reserve):
            self._refuse(reply_to, message, "unknown migration")
        elif isinstance(message, Doubt):
            self._host.reply(reply_to, DoubtAnswer(migration_id=message.migration_id, verdict="unknown"))

    def _refuse(self, reply_to: bytes, reserve: Reserve, reason: str) -> None:
        self._host.count("refused_moves")
        self._host.reply(
            reply_to, Refuse(migration_id=reserve.migration_id, stage=reserve.stage, reason=reason)
        )

    # ---- inside

    def _spawn(self, coroutine: Any, afterwards: Callable[[], Any]) -> None:
        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            afterwards()
            if not task.cancelled() and task.exception() is not None:
                logger.error("a migration's session failed", exc_info=task.exception())

        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(done)


def _numbered(migration_id: str, index: int) -> str:
    return migration_id if index == 0 else f"{migration_id}.{index + 1}"


def _why_not(request_id: str, candidates: list[Candidate]) -> str:
    found = next((one for one in candidates if one.request_id == request_id), None)
    if found is None:
        return f"request_id: {request_id} is not here"
    return f"request_id: {request_id} cannot leave: it is {'leaving' if found.leaving else found.state}"
