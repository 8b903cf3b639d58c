"""A whole gateway in this process: the real door, front half and links; agents beside it, on one loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any, TypeVar

import uvicorn

from controlplane.gateway.abuse import Excess
from controlplane.gateway.entries import Entry
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.http_protocol import BoundedProtocol
from controlplane.gateway.process import GatewayProcess, Options, Ports, Rules
from controlplane.gateway.server import listen
from controlplane.gateway.tenancy_watch import Hear, TenancyPorts
from controlplane.records.types import FinishedRequest
from controlplane.tenancy.types import KeyUse
from engine_agents.config import AgentConfig
from engine_agents.engines.paced import build
from engine_agents.engines.port import Engine
from engine_agents.messages import GatewayStatus, MigrateOut, encode
from engine_agents.serve import AgentServer
from engine_agents.vllm_engine.frontend_port import EngineClientPort, FrontHalf, FrontHalfConfig
from tests.engine_agents.harness import agent_config
from tests.gateway.identities import CLASSES, KEYS

POOL, MODEL = "pool", "tiny"
PATIENCE_S = 120.0
T = TypeVar("T")


class LoopThread:
    """An event loop of its own, so that tests can use plain blocking clients."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        done: Future[T] = Future()

        def do() -> None:
            try:
                done.set_result(function(*args))
            except BaseException as error:
                done.set_exception(error)

        self.loop.call_soon_threadsafe(do)
        return done.result(PATIENCE_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()


Build = Callable[[FrontHalfConfig, EngineClientPort], Awaitable[FrontHalf]]


class Fleet:
    """A gateway process and the agents it may use; start and stop agents at will."""

    def __init__(
        self, model_path: str, build_front: Build, engine_args: dict[str, Any] | None = None
    ) -> None:
        self.loop = LoopThread()
        self.agents: dict[str, AgentServer] = {}
        self.records: list[FinishedRequest] = []
        self.reports: list[GatewayStatus] = []
        self.uses: list[KeyUse] = []
        self.excess: list[Excess] = []
        self.hear: Hear = lambda event: None
        """Tell the gateway that something about tenants was written."""
        self.rules = Rules(classes=CLASSES)
        self._seq = 0
        self._moves = 0
        model = FrontHalfConfig(model_path, MODEL, engine_args or {})
        ports = Ports(
            lookup_key=lambda raw_key, now: KEYS.get(raw_key),
            write_records=self.records.extend,
            read_rules=lambda: self.rules,
            build_front=build_front,
            follow_fleet=self._follow_fleet,
            publish=self._publish,
            clock=time.monotonic,
            wall_clock=lambda: datetime.now(UTC),
            tenancy=TenancyPorts(
                rights_of_key=lambda key_id, now: next(
                    (each for each in KEYS.values() if each.key_id == key_id), None
                ),
                note_uses=self.uses.extend,
                write_excess=self.excess.extend,
                follow=self._follow_tenancy,
            ),
        )
        self.process = GatewayProcess(Options("gw-test", POOL, model), ports)
        config = uvicorn.Config(
            self.process.door,
            port=0,
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.loop.run(self._start())

    async def _start(self) -> None:
        await self.process.start()
        listener = listen("127.0.0.1", 0)
        self._serving = asyncio.create_task(self.server._serve(sockets=[listener]))
        while not self.server.started:  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.01)
        self.port = listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def gateway(self):
        return self.process.gateway

    def add_agent(self, instance_id: str, **changes: Any) -> AgentServer:
        """A paced agent; returns when the gateway can use it."""
        config = agent_config(instance_id, pool=POOL, served_model=MODEL, **changes)
        return self.add_server(instance_id, config, build(config))

    def add_server(self, instance_id: str, config: AgentConfig, engine: Engine) -> AgentServer:
        server = AgentServer(config, engine)
        self.loop.run(server.start())
        self.agents[instance_id] = server
        self.wait_for(lambda: instance_id in self.gateway.links.usable())
        return server

    def kill(self, instance_id: str) -> None:
        """As abrupt as it can be without a process of its own: the sockets close, nothing is said."""
        server = self.agents.pop(instance_id)

        async def cut() -> None:
            server._context.destroy(linger=0)
            # What is left of it may complain about its closed sockets as it likes.
            with contextlib.suppress(Exception):
                await server.stop()
            await asyncio.to_thread(server.engine.stop)

        self.loop.run(cut())

    def move_the_only(self) -> str:
        """Command the owner of the one live request to move it to the next agent; returns the refusal."""
        (entry,) = self.loop.call(lambda: list(self.gateway.journal))
        return self.move(entry)

    def move(self, entry: Entry) -> str:
        if entry.owner_id not in self.agents:
            return "nobody runs it"
        names = sorted(self.agents)
        to = self.agents[names[(names.index(entry.owner_id) + 1) % len(names)]]
        self._moves += 1
        command = MigrateOut(
            migration_id=f"move-{self._moves}",
            destination_instance_id=to.config.instance_id,
            destination_peer_endpoint=to.peer_endpoint,
            rule="manual",
            lease_epoch=1,
            budget_tokens=10_000,
            request_id=entry.request_id,
        )
        return self.loop.run(self.agents[entry.owner_id].migrate_out(command)).reason

    def stop_agent(self, instance_id: str) -> None:
        self.loop.run(self.agents.pop(instance_id).stop())

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not self.loop.call(condition):
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def close(self) -> None:
        async def stop() -> None:
            self.server.should_exit = True
            await self._serving
            await self.process.stop()
            for server in self.agents.values():
                await server.stop()

        self.loop.run(stop())
        self.loop.close()

    async def _follow_fleet(self, view: FleetView, on_change: Callable[[], None]) -> None:
        """In the place of Redis: every agent's report, twenty times a second."""
        while True:
            self._seq += 1
            now = time.time()
            raw = {name.encode(): encode(agent.status(self._seq, now)) for name, agent in self.agents.items()}
            view.redis_alive = True
            view.absorb(raw, now_s=time.monotonic(), wall_s=now)
            on_change()
            await asyncio.sleep(0.05)

    async def _follow_tenancy(self, hear: Hear) -> None:
        self.hear = hear
        await asyncio.Event().wait()

    async def _publish(self, gateway_id: str, report: Callable[[], GatewayStatus]) -> None:
        while True:
            self.reports.append(report())
            await asyncio.sleep(1.0)
