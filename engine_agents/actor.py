"""EngineAgent, the Ray actor (the paper's "llumlet"): a server on a loop of its own, and thin methods.

Ray's threads only carry control calls; serving happens on the loop's and the
engine's thread, so a slow or dead Ray does not touch a token. Messages cross
Ray as MessagePack. A dead engine ends the process: Ray starts a new one, which
announces itself under a new incarnation.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine_agents.config import AgentConfig
from engine_agents.engines.port import Engine
from engine_agents.messages import MigrateOut, encode
from engine_agents.serve import AgentServer
from engine_agents.sigterm import on_sigterm

logger = logging.getLogger(__name__)

ENGINES = {
    "vllm": "engine_agents.vllm_engine.engine:VllmEngine",
    "paced": "engine_agents.engines.paced:build",
}
"""Loaded by name inside the actor's process only: whoever starts an agent never imports vLLM."""
CALL_LIMIT_S = 60.0
LEAVE_WITHIN_S = 120.0
"""After SIGTERM; what is left then is recovered elsewhere from its tokens."""
LAST_REPORTS_S = 10.0
"""An empty agent that was told to end lets the control plane end it, so that nobody takes it for a crash."""
ENGINE_DIED_EXIT_CODE = 70
T = TypeVar("T")
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def load_engine(config: AgentConfig) -> Engine:
    """The engine of an agent, not started. Raises ``ValueError`` for an unknown kind or bad arguments."""
    if config.engine not in ENGINES:
        raise ValueError(f"engine: {config.engine!r} is unknown; known: {', '.join(sorted(ENGINES))}")
    module, _, name = ENGINES[config.engine].partition(":")
    engine: Engine = getattr(importlib.import_module(module), name)(config)
    return engine


class EngineAgent:
    """One instance. The constructor returns at once; :meth:`wait_ready` tells how loading went."""

    def __init__(self, config: bytes) -> None:
        """``config`` is an :class:`AgentConfig` as MessagePack."""
        self._config = _at_home(msgspec.msgpack.decode(config, type=AgentConfig))
        _log_to(self._config)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="agent-loop", daemon=True).start()
        self._server: AgentServer | None = None
        on_sigterm(self._loop, self._told_to_end)
        self._ready: Future[None] = asyncio.run_coroutine_threadsafe(self._start(), self._loop)

    def describe(self) -> dict[str, Any]:
        return self._on_loop(self._describe())

    def wait_ready(self) -> None:
        """Returns once the engine serves. Raises what kept it from starting, in plain words."""
        self._ready.result()

    def migrate_out(self, command: bytes) -> bytes:
        """``MigrateOut`` -> ``MigrateOutAnswer``."""
        message = msgspec.msgpack.decode(command, type=MigrateOut)
        return encode(self._on_loop(self._serving().migrate_out(message)))

    def set_accepting(self, accepting: bool, lease_epoch: int) -> bool:
        """False when a newer lease epoch commands here."""
        return self._on_loop(self._set_accepting(accepting, lease_epoch))

    def requests(self) -> bytes:
        """``list[RequestInfo]``."""
        return msgspec.msgpack.encode(self._on_loop(self._serving().requests()))

    def set_rank(self, engine_ids: Sequence[str], rank: int) -> None:
        self._on_loop(self._set_rank(engine_ids, rank))

    def set_failpoints(self, text: str) -> None:
        """For tests; refused unless the agent's configuration permits it."""
        self._serving().set_failpoints(text)

    def shutdown(self, grace_s: float = 0.0) -> None:
        """Take no more work, let requests end for up to ``grace_s``, free everything."""
        if self._server is not None:
            asyncio.run_coroutine_threadsafe(self._server.stop(grace_s), self._loop).result()

    # ---- inside

    def _told_to_end(self) -> None:
        """SIGTERM. Ends once everything has left; the control plane usually ends it before."""
        if self._server is None or self._server.leaving:
            _end_process("told to end before it served, or twice")
            return
        logger.warning("told to end: no new work, waiting until everything here has left")
        self._server.leave()
        self._server.spawn(self._end_when_empty(self._server))

    async def _end_when_empty(self, server: AgentServer) -> None:
        deadline_s = self._loop.time() + LEAVE_WITHIN_S
        while self._loop.time() < deadline_s and not server.is_empty():  # noqa: ASYNC110 - once in a life
            await asyncio.sleep(0.1)
        await asyncio.sleep(LAST_REPORTS_S)
        _end_process("told to end, and everything has left" if server.is_empty() else "told to end")

    async def _start(self) -> None:
        try:
            await self._serve()
        except BaseException as error:
            logger.error("did not start: %s: %s", type(error).__name__, error)
            raise

    async def _serve(self) -> None:
        server = AgentServer(self._config, load_engine(self._config), on_failure=_end_process)
        self._server = server
        try:
            await server.start()
        except BaseException:
            await server.stop()
            raise

    async def _describe(self) -> dict[str, Any]:
        return self._serving().describe()

    async def _set_accepting(self, accepting: bool, lease_epoch: int) -> bool:
        return self._serving().set_accepting(accepting, lease_epoch)

    async def _set_rank(self, engine_ids: Sequence[str], rank: int) -> None:
        self._serving().set_rank(engine_ids, rank)

    def _serving(self) -> AgentServer:
        if self._server is None:
            raise RuntimeError(f"{self._config.instance_id} has not begun to serve")
        return self._server

    def _on_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(CALL_LIMIT_S)


def _at_home(config: AgentConfig) -> AgentConfig:
    """With ``host="auto"`` an agent listens at its Ray node's own address."""
    if config.host != "auto":
        return config
    import ray

    return msgspec.structs.replace(config, host=str(ray.util.get_node_ip_address()))


def _end_process(reason: str) -> None:
    """Ray restarts the actor; a half-dead process would hold the instance's memory and name."""
    logger.critical("the engine is dead (%s): ending this process, to be started again", reason)
    logging.shutdown()
    os._exit(ENGINE_DIED_EXIT_CODE)


def _log_to(config: AgentConfig) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if config.log_dir:
        Path(config.log_dir).mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(Path(config.log_dir) / f"agent-{config.instance_id}.log"))
    logging.basicConfig(level=logging.INFO, format=_LOG_FORMAT, handlers=handlers)
