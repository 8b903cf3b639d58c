"""Requests in, tokens out: what an agent does for gateways.

Engine callbacks arrive on the engine's thread and are handed over in order, so
the outputs of a step leave before the result of any operation that ran after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from engine_agents.config import AgentConfig
from engine_agents.engines.port import AddOutcome, Engine, EngineInfo, MoveImpossible, StepOutputs
from engine_agents.gateway_link import Gateway, GatewayLink
from engine_agents.live_requests import LiveRequest, LiveRequests
from engine_agents.messages import (
    PROTOCOL_VERSION,
    Abort,
    Add,
    GrantMove,
    Heartbeat,
    Hello,
    Message,
    Owner,
    Preempted,
    Ready,
    Refused,
    SetRank,
    Step,
    engine_id,
)
from engine_agents.migration.desk import MigrationDesk

logger = logging.getLogger(__name__)

HEARTBEAT_S = 0.5


class IntakeHost(Protocol):
    """The agent around it."""

    config: AgentConfig
    engine: Engine
    live: LiveRequests
    incarnation: str
    state: str
    accepting: bool
    dead: bool
    desk: MigrationDesk
    gateways: GatewayLink

    @property
    def info(self) -> EngineInfo: ...

    def room_tokens(self) -> int: ...

    def touch(self) -> None: ...

    def count(self, name: str) -> None: ...

    def refuse_link(self, door: str, why: str) -> None: ...

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None: ...


class Intake:
    """The :class:`~engine_agents.gateway_link.GatewayDesk` of an agent; used on its event loop."""

    def __init__(self, host: IntakeHost) -> None:
        self._host = host
        self._steps_sent = 0
        self._beats = 0
        self._loop: asyncio.AbstractEventLoop

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """The loop that engine callbacks are handed to; before the engine starts."""
        self._loop = loop

    def ready_for(self, hello: Hello) -> Message | None:
        if self._host.state == "starting" or self._host.dead:
            return None
        info = self._host.info
        return Ready(
            instance_id=self._host.config.instance_id,
            incarnation=self._host.incarnation,
            protocol_version=PROTOCOL_VERSION,
            engine=info.engine,
            engine_version=info.engine_version,
            served_model=info.served_model,
            max_model_len=info.max_model_len,
            block_size_tokens=info.block_size_tokens,
            total_blocks=info.total_blocks,
        )

    def on_add(self, gateway: Gateway, add: Add) -> None:
        reason = self._refusal(gateway, add)
        gateway.began(add.seq)
        if reason:
            gateway.unsettled.discard(add.seq)
            self._refuse(
                gateway, add, AddOutcome(accepted=False, reason=reason, room_tokens=self._host.room_tokens())
            )
            return
        live = LiveRequest.of(gateway.client, add)
        older = self._host.live.fence(add.request_id, add.dispatch)
        if older is not None:
            self.abort([older.engine_id])
        self._host.live.put(live)
        self._host.spawn(self._add(gateway, add))

    def on_abort(self, gateway: Gateway, abort: Abort) -> None:
        for name in abort.engine_ids:
            self._host.desk.aborted(name, gateway.client)
        self.abort([name for name in abort.engine_ids if self._belongs(name, gateway)])

    def on_set_rank(self, gateway: Gateway, change: SetRank) -> None:
        ours = [name for name in change.engine_ids if self._belongs(name, gateway)]
        if ours:
            self.set_rank(ours, change.rank, change.slo_class)

    def on_verdict(self, verdict: GrantMove | Owner) -> None:
        self._host.desk.on_verdict(verdict)

    def on_gateway_gone(self, gateway: Gateway, why: str) -> None:
        orphans = self._host.live.of_client(gateway.client)
        logger.info("gateway %s is gone (%s): %d requests aborted", gateway.client, why, len(orphans))
        self._host.desk.gateway_gone(gateway.client)
        self.abort(orphans)

    def on_refused_link(self, why: str) -> None:
        self._host.refuse_link("gateway", why)

    def _refusal(self, gateway: Gateway, add: Add) -> str:
        if self._host.state != "ready" or not self._host.accepting:
            return "draining"
        if gateway.engine_version and gateway.engine_version != self._host.info.engine_version:
            return "version"
        return "stale_dispatch" if self._host.live.is_stale(add.request_id, add.dispatch) else ""

    def _refuse(self, gateway: Gateway, add: Add, outcome: AddOutcome) -> None:
        self._host.count("refused_adds")
        name = engine_id(add.request_id, add.dispatch)
        self._host.gateways.send(
            gateway.client, Refused(engine_id=name, reason=outcome.reason, room_tokens=outcome.room_tokens)
        )

    async def _add(self, gateway: Gateway, add: Add) -> None:
        name = engine_id(add.request_id, add.dispatch)
        try:
            outcome = await asyncio.wrap_future(self._host.engine.add(gateway.client, add))
        except Exception as error:
            logger.exception("adding %s failed", name)
            outcome = AddOutcome(accepted=False, reason=f"invalid: {error}")
        gateway.unsettled.discard(add.seq)
        if not outcome.accepted:
            self._host.live.discard(name)
            self._refuse(gateway, add, outcome)
            return
        self._host.touch()
        if self._host.live.get(name) is None:
            # Aborted while it was on its way into the engine; say it again behind the Add.
            self._watch(self._host.engine.abort([name]))

    def _belongs(self, name: str, gateway: Gateway) -> bool:
        live = self._host.live.get(name)
        return live is not None and live.client == gateway.client

    def set_rank(self, engine_ids: Sequence[str], rank: int, slo_class: str = "") -> None:
        """From the next step on; one that leaves meanwhile takes it along."""
        for name in engine_ids:
            self._host.live.set_rank(name, rank, slo_class)
        self._watch(self._host.engine.set_rank(engine_ids, rank, slo_class))
        self._host.touch()

    def abort(self, engine_ids: Sequence[str]) -> None:
        if not engine_ids:
            return
        for name in engine_ids:
            self._host.live.discard(name)
            self._host.desk.gone(name, "aborted by its gateway")
        self._watch(self._host.engine.abort(engine_ids))
        self._host.touch()

    # ---- from the engine's thread

    def from_engine_step(self, outputs: Sequence[StepOutputs]) -> None:
        self._loop.call_soon_threadsafe(self._on_step, outputs)

    def from_engine_preempted(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self._on_preempted, name)

    def _on_step(self, outputs: Sequence[StepOutputs]) -> None:
        self._steps_sent += 1
        room = self._host.room_tokens()
        for one in outputs:
            step = Step(
                step=self._steps_sent,
                engine_ids=list(one.engine_ids),
                starts=list(one.starts),
                outputs=one.payload,
                room_tokens=room,
            )
            self._send_step(one.client, step)
            for name in one.finished:
                self._host.live.discard(name)
                self._host.desk.gone(name, "finished at the source")
        self._host.touch()

    def _send_step(self, client: str, step: Step) -> None:
        gateway = self._host.gateways.find(client)
        if gateway is not None and self._host.gateways.send(client, step):
            gateway.steps_sent += 1
        else:
            self._host.count("steps_without_gateway")

    def _on_preempted(self, name: str) -> None:
        live = self._host.live.get(name)
        if live is not None:
            # One that is on its way out goes on by its tokens, with the blocks that were copied.
            self._host.gateways.send(live.client, Preempted(engine_id=name))
        self._host.touch()

    async def heartbeats(self) -> None:
        while not self._host.dead:
            self.beat()
            await asyncio.sleep(HEARTBEAT_S)

    def beat(self) -> None:
        if self._host.state == "starting" or self._host.dead:
            return
        self._beats += 1
        for gateway in self._host.gateways.gateways():
            # Read what was seen before the room: that may then only know of more than we claim.
            seen_seq = gateway.seen_seq
            beat = Heartbeat(
                instance_id=self._host.config.instance_id,
                incarnation=self._host.incarnation,
                seq=self._beats,
                room_tokens=self._host.room_tokens(),
                steps_sent=gateway.steps_sent,
                seen_seq=seen_seq,
            )
            self._host.gateways.send(gateway.client, beat)

    def _watch(self, future: Future[Any]) -> None:
        """Nobody waits for it; a failure is logged all the same."""
        future.add_done_callback(_log_failure)


def _log_failure(future: Future[Any]) -> None:
    error = future.exception()
    if error is not None and not isinstance(error, MoveImpossible):
        logger.error("the engine failed an operation: %r", error)
