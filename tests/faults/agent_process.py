"""What runs in the process of an agent under test: the production server, and a door for the test."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import asdict, replace
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from engine_agents import failpoints
from engine_agents.actor import ENGINE_DIED_EXIT_CODE, load_engine
from engine_agents.config import AgentConfig
from engine_agents.engines.port import Frozen
from engine_agents.messages import MigrateOut, encode
from engine_agents.serve import AgentServer
from tests.pacing import set_least_step

logger = logging.getLogger(__name__)


async def serve(config: AgentConfig, control: str) -> None:
    """Until told to stop; ends the process at once when the engine dies, as the actor does."""
    server = AgentServer(config, load_engine(config), on_failure=lambda _: os._exit(ENGINE_DIED_EXIT_CODE))
    await server.start()
    with zmq.asyncio.Context() as context, context.socket(zmq.REP) as socket:
        socket.linger = 0
        socket.bind(f"ipc://{control}")
        door = Door(server)
        while not door.stopping:
            await socket.send(await door.answer(await socket.recv()))
    await server.stop()


class Door:
    """One method per command of :class:`tests.faults.agents.Agent`."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self.stopping = False
        self._taken: list[Any] = []
        self._ways_allowed: tuple[str, ...] = ()

    async def answer(self, data: bytes) -> bytes:
        name, *arguments = msgspec.msgpack.decode(data)
        try:
            result = getattr(self, f"do_{name}")(*arguments)
            if asyncio.iscoroutine(result):
                result = await result
            return msgspec.msgpack.encode([True, result])
        except Exception as error:
            return msgspec.msgpack.encode([False, f"{type(error).__name__}: {error}"])

    def do_describe(self) -> dict[str, Any]:
        return self._server.describe()

    async def do_migrate_out(self, command: bytes) -> bytes:
        message = msgspec.msgpack.decode(command, type=MigrateOut)
        return encode(await self._server.migrate_out(message))

    async def do_requests(self) -> list[dict[str, Any]]:
        return [msgspec.to_builtins(row) for row in await self._server.requests()]

    def do_load(self) -> dict[str, Any]:
        desk = self._server.desk
        moves = {"arriving": desk.arriving, "outgoing": desk.outgoing, "live": len(self._server.live)}
        return asdict(self._server.load()) | moves

    def do_counters(self) -> dict[str, int]:
        return dict(self._server.counters)

    def do_set_accepting(self, accepting: bool, epoch: int) -> bool:
        return self._server.set_accepting(accepting, epoch)

    def do_set_failpoints(self, text: str) -> None:
        self._server.set_failpoints(text)

    def do_hits(self) -> dict[str, int]:
        return dict(failpoints.hits)

    def do_pace(self, least_ms: float) -> None:
        """Let a real engine's step take at least so long; a paced one has its own pace."""
        if self._server.config.engine != "paced":
            set_least_step(self._server.engine, least_ms)

    def do_advertise(self, endpoint: str) -> None:
        """Tell gateways another address than the real one, to put a relay between."""
        self._server.data_endpoint = endpoint
        self._server.touch()

    async def do_squeeze(self) -> int:
        """Take every free KV block away, as if others held them; :meth:`do_release` gives them back."""
        await self._with_blocks(take=True)
        return len(self._taken)

    async def do_release(self) -> None:
        await self._with_blocks(take=False)

    async def _with_blocks(self, *, take: bool) -> None:
        engine: Any = self._server.engine
        if self._server.config.engine == "paced":
            memory = engine._batch.memory

            def grab() -> None:
                self._taken += memory.take(memory.free_blocks)

            def give() -> None:
                memory.give_back(self._taken)

            done = engine._submit(grab if take else give)
        else:
            pool = engine.serving.scheduler.kv_cache_manager.block_pool

            def grab() -> None:
                self._taken += pool.get_new_blocks(pool.get_num_free_blocks())

            def give() -> None:
                pool.free_blocks(self._taken)

            done = engine.serving.thread.call(grab if take else give)
        await asyncio.wrap_future(done)
        if not take:
            self._taken = []

    def do_stop(self) -> None:
        self.stopping = True

    # ---------------------------------------------------------------- sabotage: what the suite must notice

    def do_sabotage(self, what: str) -> None:
        """``token``: one carried token becomes another; ``sampler``: the sampler's state stays behind."""
        engine: Any = self._server.engine
        adopt = engine.adopt
        change = {"token": _other_token, "sampler": _without_sampler}[what]
        engine.adopt = lambda reservation, frozen: adopt(reservation, change(frozen))

    def do_with_messages(self) -> None:
        """Send KV blocks with the messages, through whatever network is between, until :meth:`do_repair`."""
        ways: Any = self._server.ways
        self._ways_allowed = self._ways_allowed or ways._allowed
        ways._allowed = ()

    def do_repair(self) -> None:
        ways: Any = self._server.ways
        ways._allowed = self._ways_allowed or ways._allowed
        vars(self._server.engine).pop("adopt", None)


def _other_token(frozen: Frozen) -> Frozen:
    *before, last = frozen.output_token_ids
    return replace(frozen, output_token_ids=(*before, last + 1 if last < 200 else last - 1))


def _without_sampler(frozen: Frozen) -> Frozen:
    """As if the destination had seeded the generator anew."""
    import torch

    from engine_agents.vllm_engine import images

    state = images.decode_sampler_state(frozen.state)
    state.generator = bytes(torch.Generator().manual_seed(7).get_state().numpy())
    return replace(frozen, state=images.encode(state))
