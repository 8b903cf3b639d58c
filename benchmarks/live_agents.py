"""Agents of ``benchmarks.live_fleet`` in processes of their own; the loop asks them by sockets, not Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from engine_agents.config import AgentConfig
from engine_agents.messages import MigrateOut, MigrateOutAnswer, encode


def run_agents(configs: Sequence[AgentConfig], door: str) -> None:
    """Serve in this process until told to stop; commands of the loop come by ``door``."""
    from engine_agents.actor import load_engine
    from engine_agents.serve import AgentServer

    async def serve() -> None:
        servers = {each.instance_id: AgentServer(each, load_engine(each)) for each in configs}
        for server in servers.values():
            await server.start()
        with zmq.asyncio.Context() as context, context.socket(zmq.REP) as socket:
            socket.bind(f"ipc://{door}")
            while True:
                name, what, *arguments = msgspec.msgpack.decode(await socket.recv())
                if what == "stop":
                    await socket.send(b"")
                    break
                await socket.send(await answer(servers[name], what, arguments))
        for server in servers.values():
            await server.stop()

    async def answer(server: AgentServer, what: str, arguments: list[Any]) -> bytes:
        if what == "set_accepting":
            return msgspec.msgpack.encode(server.set_accepting(*arguments))
        return encode(await server.migrate_out(msgspec.msgpack.decode(arguments[0], type=MigrateOut)))

    asyncio.run(serve())


class DoorAgents:
    """The loop's way to the agents, as :class:`controlplane.fleet.agents.AgentClient` asks, without Ray."""

    def __init__(self, doors: Mapping[str, str]) -> None:
        self._doors = doors
        self._context = zmq.Context()

    def migrate_out(self, commands: Sequence[Any], *, timeout_s: float) -> list[MigrateOutAnswer]:
        return [
            self._decoded(self._ask(each.source_id, timeout_s, "migrate_out", encode(each.message)))
            for each in commands
        ]

    def set_accepting(
        self, wishes: Mapping[str, bool], *, lease_epoch: int, timeout_s: float
    ) -> dict[str, str]:
        asked = {
            name: self._ask(name, timeout_s, "set_accepting", wish, lease_epoch)
            for name, wish in wishes.items()
        }
        return {name: "unreachable" for name, answer in asked.items() if answer is None}

    def requests(self, instance_ids: Sequence[str], *, timeout_s: float) -> dict[str, list[Any]]:
        return {}

    def stop_all(self) -> None:
        """One word per process."""
        for name in {door: name for name, door in self._doors.items()}.values():
            self._ask(name, 30.0, "stop")

    def _decoded(self, answer: bytes | None) -> MigrateOutAnswer:
        if answer is None:
            return MigrateOutAnswer(accepted=False, reason="unreachable: does not answer")
        return msgspec.msgpack.decode(answer, type=MigrateOutAnswer)

    def _ask(self, name: str, limit_s: float, *words: Any) -> bytes | None:
        with self._context.socket(zmq.REQ) as socket:
            socket.linger = 0
            socket.connect(f"ipc://{self._doors[name]}")
            socket.send(msgspec.msgpack.encode([name, *words]))
            return socket.recv() if socket.poll(int(1e3 * limit_s)) else None
