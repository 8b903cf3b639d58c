"""One gateway process: its parts put together, started, and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from controlplane.gateway import operator, tracing
from controlplane.gateway.abuse import AbuseLog
from controlplane.gateway.admission import Admission
from controlplane.gateway.app import Door
from controlplane.gateway.commands import LiveWork
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.journal import Journal
from controlplane.gateway.keys import KeyCache, KeyLookup
from controlplane.gateway.limits.book import LimitBook
from controlplane.gateway.limits.store import LocalStore, Store
from controlplane.gateway.links import Links, Self
from controlplane.gateway.metrics import GatewayMetrics
from controlplane.gateway.records import RecordWriter, Write
from controlplane.gateway.reply import Headers
from controlplane.gateway.routing import Router
from controlplane.gateway.service import Gateway
from controlplane.gateway.tenancy_watch import TenancyPorts, TenancyWatch
from controlplane.records.types import FinishedRequest
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.snapshot import ClassRule
from controlplane.tenancy.types import ClassTerms, Network
from engine_agents.link_security import gateway_keys
from engine_agents.messages import GatewayStatus
from engine_agents.tracing import Spans
from engine_agents.vllm_engine.frontend_port import EngineClientPort, FrontHalf, FrontHalfConfig

logger = logging.getLogger(__name__)

Work = Coroutine[Any, Any, None]

TICK_S = 0.05
POLICY_INTERVAL_S = 2.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What the control plane says: the policy, and the SLO classes."""

    config: SchedulingConfig = field(default_factory=SchedulingConfig.recommended)
    classes: Mapping[str, ClassTerms] = field(default_factory=dict)
    reclassified: Mapping[int, datetime] = field(default_factory=dict)
    """Tenants whose requests from before that moment are to follow their present rights."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is fixed for the life of the process."""

    gateway_id: str
    pool: str
    model: FrontHalfConfig
    url: str = ""
    link_secret: str = ""
    """The fleet's, by which agents know this gateway; empty: plain links."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside: replaced by fakes in tests."""

    lookup_key: KeyLookup
    write_records: Write
    read_rules: Callable[[], Rules]
    """May block, may raise; called in a thread every two seconds."""
    build_front: Callable[[FrontHalfConfig, EngineClientPort], Awaitable[FrontHalf]]
    follow_fleet: Callable[[FleetView, Callable[[], None]], Work]
    """Feeds the view until cancelled, calling back after each change."""
    publish: Callable[[str, Callable[[], GatewayStatus]], Work]
    """Publishes this gateway's reports until cancelled."""
    clock: Callable[[], float]
    wall_clock: Callable[[], datetime]
    follow_commands: Callable[[LiveWork], Work] | None = None
    """Carries out what operators ask until cancelled; ``None``: nobody asks."""
    tenancy: TenancyPorts | None = None
    """How news of tenants come and go; ``None``: there are none."""
    trusted_proxies: tuple[Network, ...] = ()
    """Whose word on the caller's address is taken."""
    limit_store: Callable[[str], Store] = lambda holder: LocalStore(time.monotonic, holder)
    """Where limits are counted, for the gateway of this incarnation; by default in this process alone."""
    internal_token: str = ""
    """What the console shows to ask this process directly; empty: nobody may."""
    spans: Spans | None = None
    """Where traces go; ``None``: nowhere."""


class GatewayProcess:
    """``door`` answers (with 503) from construction on; :meth:`start` makes it serve."""

    def __init__(self, options: Options, ports: Ports) -> None:
        self._options, self._ports = options, ports
        self.incarnation = secrets.token_hex(8)
        self._ledger = Ledger()
        self.view = FleetView(options.pool, self.incarnation, self._ledger)
        self._keys = KeyCache(ports.lookup_key, ports.clock, ports.wall_clock, ports.trusted_proxies)
        self._records = RecordWriter(ports.write_records)
        self._metrics = GatewayMetrics()
        self.book = LimitBook(ports.limit_store(self.incarnation), ports.clock)
        self._abuse = AbuseLog(ports.clock)
        self.admission = Admission(self._keys, self.book, self._abuse, ports.clock)
        self.door = Door(self.admission, self.health, ports.clock, ports.wall_clock)
        self.door.operator_answer = self.operator_answer
        self.door.metrics = self.metrics
        self._terms: Mapping[str, ClassTerms] = {}
        self._watch: TenancyWatch | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.gateway: Gateway | None = None

    async def start(self) -> None:
        """Build the front half (seconds), then follow the fleet. Raises what building raises."""
        journal = Journal(self)
        gateway = Gateway(
            model=self._options.model.served_model,
            journal=journal,
            view=self.view,
            clock=self._ports.clock,
            record=self._request_finished,
        )
        gateway.front = self._front = await self._ports.build_front(self._options.model, gateway)
        gateway.links = Links(self._self(gateway.front), gateway, self._ports.clock)
        gateway.router = Router(self.view, gateway.links, self._ledger, journal)
        self.gateway = gateway
        self._watch = self._watch_tenancy(gateway)
        self._start_tasks(gateway)
        self.door.input_problem = getattr(gateway.front, "input_problem", None)
        self.door.inner = gateway.front.app

    def _start_tasks(self, gateway: Gateway) -> None:
        for work in (
            self._ports.follow_fleet(self.view, gateway.view_changed),
            self._ports.publish(self._options.gateway_id, self.report),
            self._tick(gateway),
            self._follow_rules(gateway),
            self.door.care.run(),
            self.book.tend(),
        ):
            self._tasks.append(asyncio.create_task(_guarded(work)))
        if self._watch is not None and self._ports.tenancy is not None:
            for work in (self._ports.tenancy.follow(self._watch.hear), self._watch.tell()):
                self._tasks.append(asyncio.create_task(_guarded(work)))
        if self._ports.follow_commands is not None:
            self._tasks.append(asyncio.create_task(_guarded(self._ports.follow_commands(gateway))))

    def _watch_tenancy(self, gateway: Gateway) -> TenancyWatch | None:
        ports = self._ports
        if ports.tenancy is None:
            return None
        return TenancyWatch(self._keys, self._abuse, gateway, ports.tenancy, ports.wall_clock)

    async def stop(self) -> None:
        """After the server has stopped: what is still open is aborted, what is finished recorded."""
        if self.gateway is not None:
            self.gateway.abort_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.gateway is not None:
            self.gateway.links.close()
            self.gateway.front.close()
        if self._watch is not None:
            await self._watch.tell_now()
        await asyncio.to_thread(self._records.close)
        if self._ports.spans is not None:
            await asyncio.to_thread(self._ports.spans.close)
        self._keys.close()

    # ---------------------------------------------------------------- the journal's editor is the front half

    def trim(self, output: Any, skip: int) -> Any:
        return self._front.trim(output, skip)

    def tokens_only(self, request_id: str, token_ids: list[int]) -> Any:
        return self._front.tokens_only(request_id, token_ids)

    def continued(self, output: Any) -> Any:
        return self._front.continued(output)

    # ---------------------------------------------------------------- reports

    def health(self) -> dict[str, object]:
        gateway = self.gateway
        if gateway is None or self.door.inner is None:
            return {"status": "starting"}
        usable = sorted(gateway.links.usable())
        return {
            "status": "ok" if usable else "no engine",
            "instances": usable,
            "unusable": gateway.links.refusals(),
            "open_requests": gateway.open_requests,
            "queued": len(gateway.router),
        }

    def operator_answer(self, headers: Headers) -> bytes | None:
        """For the console while Redis is away; ``None`` where the caller is not the console."""
        gateway = self.gateway
        if gateway is None or not operator.allowed(headers, self._ports.internal_token):
            return None
        usable, now_s = gateway.links.usable(), self._ports.clock()
        return operator.operator_answer(self.report(), self.view, usable, now_s)

    def _request_finished(self, finished: FinishedRequest) -> None:
        self._records.put(finished)
        self._metrics.request_finished(finished)
        tracing.request_finished(self._ports.spans, finished)

    def metrics(self, headers: Headers) -> bytes | None:
        """Prometheus' text; ``None`` where the caller does not show the console's token."""
        return self._metrics.render() if operator.allowed(headers, self._ports.internal_token) else None

    def report(self) -> GatewayStatus:
        """For the dashboard; see :class:`engine_agents.messages.GatewayStatus`."""
        gateway = self.gateway
        assert gateway is not None
        return GatewayStatus(
            gateway_id=self._options.gateway_id,
            incarnation=self.incarnation,
            pool=self._options.pool,
            url=self._options.url,
            reported_at_s=self._ports.wall_clock().timestamp(),
            open_streams=gateway.open_requests,
            queued=len(gateway.router),
            per_class=gateway.latency.report(self._ports.clock(), gateway.open_by_class(), self._terms),
            pid=os.getpid(),
            served_model=self._options.model.served_model,
            waiters=gateway.router.waiters(self._ports.clock()),
            queue_tokens=gateway.router.queue_tokens,
        )

    # ---------------------------------------------------------------- tasks

    async def _tick(self, gateway: Gateway) -> None:
        while True:
            gateway.tick()
            await asyncio.sleep(TICK_S)

    async def _follow_rules(self, gateway: Gateway) -> None:
        readable = True
        while True:
            try:
                rules = await asyncio.to_thread(self._ports.read_rules)
            except Exception as error:
                if readable:
                    logger.warning("policy and classes cannot be read: %s", type(error).__name__)
                readable = False
            else:
                readable = True
                self._terms = rules.classes
                gateway.router.reconfigure(rules.config, _class_rules(rules.classes))
                if self._watch is not None:
                    await self._watch.follow_rights(rules.reclassified)
            await self._rules_due()

    async def _rules_due(self) -> None:
        """After the interval, or at once when a tenant's running requests are to change."""
        if self._watch is None:
            await asyncio.sleep(POLICY_INTERVAL_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLICY_INTERVAL_S):
                await self._watch.reread.wait()
        self._watch.reread.clear()

    def _self(self, front: FrontHalf) -> Self:
        return Self(
            gateway_id=self._options.gateway_id,
            incarnation=self.incarnation,
            engine_version=front.engine_version,
            served_model=self._options.model.served_model,
            max_model_len=front.max_model_len,
            keys=gateway_keys(self._options.link_secret),
        )


async def _guarded(work: Work) -> None:
    try:
        await work
    except Exception:
        # Without one of its tasks a gateway would go on half alive: end it, to be started anew.
        logger.critical("a task of the gateway failed; the process ends", exc_info=True)
        signal.raise_signal(signal.SIGTERM)


def _class_rules(terms: Mapping[str, ClassTerms]) -> dict[str, ClassRule]:
    return {name: ClassRule(name, term.rank, term.target_load_tokens) for name, term in terms.items()}
