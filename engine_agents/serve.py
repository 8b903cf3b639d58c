"""The agent without Ray: one engine, its doors, its reports, its migrations.

:class:`AgentServer` runs on one asyncio loop; :mod:`engine_agents.actor` is a
thin wrapper that gives it one. Requests come and go by :mod:`engine_agents.intake`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any, TypeVar

import zmq.asyncio

from engine_agents import failpoints
from engine_agents.config import AgentConfig
from engine_agents.engines.port import Engine, EngineInfo, EngineLoad
from engine_agents.gateway_link import GatewayLink, client_key
from engine_agents.intake import Intake
from engine_agents.link_security import Doorkeeper, agent_keys, check_listening
from engine_agents.live_requests import LiveRequest, LiveRequests
from engine_agents.messages import (
    InstanceStatus,
    Message,
    MigrateOut,
    MigrateOutAnswer,
    MigrationOutcome,
    RequestInfo,
    split_engine_id,
)
from engine_agents.metric_messages import InstanceMetrics, Measured
from engine_agents.metric_reports import MetricsReporter
from engine_agents.migration.desk import MigrationDesk
from engine_agents.migration.ports import SourceLink
from engine_agents.migration.transfer import Pace
from engine_agents.migration.ways import Ways
from engine_agents.peer_link import PeerLink
from engine_agents.status import RateWindow, StatusReporter, class_loads, room_tokens
from engine_agents.tracing import MigrationTrace, otlp_spans

logger = logging.getLogger(__name__)

T = TypeVar("T")


class AgentServer:
    """``await start()``, serve, ``await stop()``. All methods on the loop that started it."""

    def __init__(
        self, config: AgentConfig, engine: Engine, on_failure: Callable[[str], None] | None = None
    ) -> None:
        """``on_failure(reason)`` is called once when the engine has died; by default serving stops."""
        self.config = config
        self.engine = engine
        if config.failpoints:
            failpoints.arm(config.failpoints)
        self.incarnation = uuid.uuid4().hex
        self.state = "starting"
        self.accepting = True
        self.leaving = False
        self.lease_epoch = 0
        """Highest seen; commands of an older one are refused."""
        self.counters: dict[str, int] = {}
        self.data_endpoint = ""
        self.peer_endpoint = ""
        self._info: EngineInfo | None = None
        self.live = LiveRequests()
        self._context = zmq.asyncio.Context()
        pace = Pace(config.copy_share, config.urgent_copy_share, config.copy_bytes_per_s)
        self.ways = Ways(config.transfer, pace, name=f"{config.instance_id}/{self.incarnation}")
        self.desk = MigrationDesk(self)
        keys = agent_keys(config.link_secret)
        check_listening(config.host, keys)
        self._doorkeeper = Doorkeeper(self._context, keys)
        self._peers = PeerLink(
            self._context,
            self.desk,
            name=f"{config.instance_id}/{self.incarnation}",
            keys=keys,
            on_refused=lambda why: self.refuse_link("peer", why),
        )
        self._intake = Intake(self)
        self.gateways = GatewayLink(
            self._context, self._intake, silence_limit_s=config.gateway_timeout_s, keys=keys
        )
        self._trace = MigrationTrace(otlp_spans(f"llumdeck-agent-{config.instance_id}", config.otlp_endpoint))
        self._reporter = StatusReporter(
            config.redis_url,
            config.redis_prefix,
            self.status,
            min_interval_s=config.status_min_interval_s,
            max_interval_s=config.status_max_interval_s,
        )
        self._metrics_reporter = MetricsReporter(config.redis_url, config.redis_prefix, self.metrics)
        self._on_failure = on_failure
        self.dead = False
        self._last_load = _NO_LOAD
        self._rates = RateWindow()
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- life

    async def start(self) -> EngineInfo:
        """Open the doors, load the engine, report ready. Raises what the engine raises, in plain words."""
        self._loop = asyncio.get_running_loop()
        self._intake.attach(self._loop)
        self._doorkeeper.start()
        self.data_endpoint = self.gateways.bind(self.config.host, self.config.data_port)
        self.peer_endpoint = self._peers.bind(self.config.host, self.config.peer_port)
        self.gateways.start()
        self._peers.start()
        self._reporter.start()
        self._info = await asyncio.to_thread(
            self.engine.start,
            on_step=self._intake.from_engine_step,
            on_preempted=self._intake.from_engine_preempted,
        )
        self.state = "ready"
        self._reporter.touch()
        self._metrics_reporter.start()
        self.spawn(self._intake.heartbeats())
        return self._info

    async def stop(self, grace_s: float = 0.0) -> None:
        """Take no more work, wait up to ``grace_s`` for the requests here to end, then close everything."""
        self.state, self.accepting = "stopping", False
        self._reporter.touch()
        deadline = self._loop.time() + grace_s
        while len(self.live) and self._loop.time() < deadline:  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(0.05)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.desk.close()
        self.ways.close()
        self.dead = True
        await self._metrics_reporter.close()
        await asyncio.to_thread(self.engine.stop)
        await self._reporter.close()
        await asyncio.to_thread(self._trace.close)
        await self._peers.close()
        await self.gateways.close()
        self._doorkeeper.stop()
        self._context.destroy(linger=0)

    @property
    def info(self) -> EngineInfo:
        """Raises ``RuntimeError`` before the engine is up."""
        if self._info is None:
            raise RuntimeError(f"{self.config.instance_id} is still loading its engine")
        return self._info

    def describe(self) -> dict[str, Any]:
        """For people and tools: identity, endpoints, engine."""
        return {
            "instance_id": self.config.instance_id,
            "pool": self.config.pool,
            "incarnation": self.incarnation,
            "state": self.state,
            "accepting": self.accepting,
            "lease_epoch": self.lease_epoch,
            "data_endpoint": self.data_endpoint,
            "peer_endpoint": self.peer_endpoint,
            "pid": os.getpid(),
            "info": asdict(self._info) if self._info else None,
            "counters": dict(self.counters),
        }

    # ---- commands of the control plane

    def set_accepting(self, accepting: bool, lease_epoch: int) -> bool:
        """Drain (False) or take work again; False is returned for a command of an older lease epoch."""
        if not self.admit_epoch(lease_epoch):
            return False
        self.accepting = accepting and not self.leaving
        self._reporter.touch()
        return True

    def leave(self) -> None:
        """Told to end: no new work from now on; whoever leads lets everything here move away."""
        self.leaving, self.accepting = True, False
        self._reporter.touch()

    def is_empty(self) -> bool:
        """Nothing runs, waits, comes or goes."""
        return not len(self.live) and not self.desk.arriving and not self.desk.outgoing

    def admit_epoch(self, lease_epoch: int) -> bool:
        if lease_epoch < self.lease_epoch:
            self.count("stale_epochs")
            return False
        self.lease_epoch = lease_epoch
        return True

    async def migrate_out(self, command: MigrateOut) -> MigrateOutAnswer:
        """Let requests go elsewhere; answers with the plan, outcomes are reported as they come."""
        if not self.admit_epoch(command.lease_epoch):
            reason = f"stale epoch {command.lease_epoch}: {self.lease_epoch} commands here"
            return MigrateOutAnswer(accepted=False, reason=reason)
        if self.state != "ready":
            return MigrateOutAnswer(accepted=False, reason=f"the source is {self.state}")
        return await self.desk.migrate_out(command)

    async def requests(self) -> list[RequestInfo]:
        """Every live request, with the migration that moves it."""
        rows = await self._ask(self.engine.requests())
        for row in rows:
            move = self.desk.leaving(row.engine_id)
            row.migration_id = move.departure.migration_id if move else ""
        return rows

    def set_rank(self, engine_ids: Sequence[str], rank: int, slo_class: str = "") -> None:
        """Urgency from the next step on; an empty class stays as it is."""
        self._intake.set_rank(engine_ids, rank, slo_class)

    def set_failpoints(self, text: str) -> None:
        """For tests. Raises ``ValueError`` where the configuration does not permit it, or for bad rules."""
        if not self.config.failpoints:
            raise ValueError("failpoints are off: this agent's configuration does not permit them")
        failpoints.arm(text)

    # ---- reports

    def room_tokens(self) -> int:
        return room_tokens(self.load(), self.info.total_blocks, self.info.block_size_tokens)

    def load(self) -> EngineLoad:
        """The engine's; the last known one from a dead engine."""
        if self._info is None or self.dead:
            return self._last_load
        try:
            self._last_load = self.engine.load()
        except Exception as error:
            self._fail(str(error))
        return self._last_load

    def _fail(self, reason: str) -> None:
        logger.critical("the engine has died: %s", reason)
        self.dead, self.state = True, "stopping"
        if self._on_failure is not None:
            self._on_failure(reason)

    def status(self, seq: int, now_s: float) -> InstanceStatus:
        """The report of this moment; before the engine is up it has identity and state only."""
        # Read what was seen before the load: the load may then only know more than we claim.
        seen = {gateway.incarnation: gateway.seen_seq for gateway in self.gateways.gateways()}
        load = self.load()
        rates = self._rates.rates(load, self._loop.time())
        info = self._info or _NO_INFO
        return InstanceStatus(
            instance_id=self.config.instance_id,
            pool=self.config.pool,
            incarnation=self.incarnation,
            seq=seq,
            reported_at_s=now_s,
            state=self.state,
            accepting=self.accepting and self.state == "ready",
            engine=info.engine,
            engine_version=info.engine_version,
            served_model=self.config.served_model,
            data_endpoint=self.data_endpoint,
            peer_endpoint=self.peer_endpoint,
            block_size_tokens=info.block_size_tokens,
            total_blocks=info.total_blocks,
            used_blocks=load.used_blocks,
            reserved_blocks=load.reserved_blocks,
            running=load.running,
            waiting=load.waiting,
            per_class=class_loads(load),
            head_of_line_blocks=load.head_of_line_blocks,
            queued_blocks=load.queued_blocks,
            unprefilled_tokens=load.unprefilled_tokens,
            preempted_waiting=load.preempted_waiting,
            preemptions_total=load.preemptions_total,
            tokens_total=load.tokens_total,
            step_ms=rates.step_ms,
            tokens_per_s=rates.tokens_per_s,
            migrations_in=self.desk.arriving,
            migrations_out=self.desk.outgoing,
            migration_slots=self.config.migration_slots,
            seen=seen,
            lease_epoch=self.lease_epoch,
            refused_epochs=self.counters.get("stale_epochs", 0),
            kv_bytes_per_token=info.kv_bytes_per_token,
            pid=os.getpid(),
            host=socket.gethostname(),
            leaving=self.leaving,
        )

    def metrics(self, now_s: float) -> InstanceMetrics:
        """What the engine counts under its own names, and what the agent counts. Any thread."""
        return InstanceMetrics(
            instance_id=self.config.instance_id,
            incarnation=self.incarnation,
            taken_at_s=now_s,
            families=self.engine.metrics() if isinstance(self.engine, Measured) and not self.dead else [],
            agent_counts={
                **self.counters,
                "reports_not_taken": self._reporter.failures,
                "outcomes_lost": self._reporter.outcomes_lost,
            },
        )

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    def refuse_link(self, door: str, why: str) -> None:
        """Somebody unknown knocked."""
        self.count("refused_links")
        times = self.counters["refused_links"]
        if times in (1, 10, 100) or times % 1000 == 0:
            logger.warning("refused a connection at the %s door (%d times): %s", door, times, why)

    # ---- for migrations (DeskHost)

    def send_to_gateway(self, client: str, message: Message) -> bool:
        return self.gateways.send(client, message)

    def gateway_of(self, client: str) -> tuple[str, str] | None:
        gateway = self.gateways.find(client)
        return (gateway.gateway_id, gateway.incarnation) if gateway else None

    def client_of(self, gateway_id: str, incarnation: str) -> str | None:
        client = client_key(gateway_id, incarnation)
        return client if self.gateways.find(client) else None

    def connection(self, endpoint: str) -> SourceLink:
        return self._peers.connection(endpoint)

    def reply(self, reply_to: bytes, message: Message) -> bool:
        return self._peers.reply(reply_to, message)

    def touch(self) -> None:
        """The load changed: a report is due."""
        self._reporter.touch()

    def report(self, outcome: MigrationOutcome) -> None:
        self._reporter.outcome(outcome)
        self._trace.outcome(outcome)
        self._reporter.touch()

    def left(self, engine_id: str) -> None:
        self.live.discard(engine_id)
        self._reporter.touch()

    def arrived(self, live: LiveRequest) -> None:
        request_id, dispatch = split_engine_id(live.engine_id)
        self.live.put(live)
        if self.live.is_stale(request_id, dispatch):
            # Recovered here under a newer number while it was being adopted.
            self._intake.abort([live.engine_id])
        older = self.live.fence(request_id, dispatch)
        if older is not None:
            self._intake.abort([older.engine_id])
        self._reporter.touch()

    # ---- inside

    async def _ask(self, future: Future[T]) -> T:
        return await asyncio.wrap_future(future)

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_NO_LOAD = EngineLoad(0, 0, 0, 0, (), 0, 0, 0, 0, 0, 0, 0.0, 0)
_NO_INFO = EngineInfo("", "", "", 0, 0, 0, 0, "")
