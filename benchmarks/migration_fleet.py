"""Two real engines in processes of their own and a bare gateway that times every token.

No Ray and no Redis: an agent is driven over a pipe. The gateway is the wire side
of the real one, with its judgement of moves and nothing else, so that what is
measured is agents and engines.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import uvloop
import zmq
import zmq.asyncio

from engine_agents.config import AgentConfig
from engine_agents.engines.paced_wire import decode_outputs
from engine_agents.messages import (
    Abort,
    Add,
    Adopted,
    AskMove,
    AskOwner,
    GrantMove,
    Hello,
    Message,
    MigrateOut,
    MigrationOutcome,
    Owner,
    Ready,
    Step,
    ToGateway,
    encode,
    engine_id,
    split_engine_id,
)

PATIENCE_S = 120.0
GATEWAY_ID = "benchmark"


# ---------------------------------------------------------------- an agent's process


def run_agent(config: AgentConfig, pipe: Connection) -> None:
    """Serve until the pipe closes; commands are ``(name, argument)``, answers what they return."""
    from engine_agents.actor import load_engine
    from engine_agents.serve import AgentServer

    async def serve() -> None:
        server = AgentServer(config, load_engine(config))
        outcomes: asyncio.Queue[MigrationOutcome] = asyncio.Queue()
        server.report = lambda outcome: outcomes.put_nowait(outcome)  # type: ignore[method-assign]
        await server.start()
        pipe.send((server.data_endpoint, server.peer_endpoint))
        try:
            await _obey(server, outcomes, pipe)
        finally:
            await server.stop()

    # As in a Ray worker, whose event loop is uvloop's.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def _obey(server: Any, outcomes: asyncio.Queue[MigrationOutcome], pipe: Connection) -> None:
    async def migrate_out(command: bytes) -> bytes:
        answer = await server.migrate_out(msgspec.msgpack.decode(command, type=MigrateOut))
        while answer.accepted:
            outcome = await outcomes.get()
            if outcome.state in ("done", "aborted"):
                return encode(outcome)
        raise RuntimeError(answer.reason)

    async def configure(changes: dict[str, Any]) -> None:
        server.config = msgspec.structs.replace(server.config, **changes)

    async def cpu_s(_: None) -> float:
        return sum(os.times()[:2])

    async def steps(_: None) -> tuple[int, float]:
        load = server.engine.load()
        return load.steps_total, load.step_seconds_total

    known: dict[str, Callable[[Any], Any]] = {
        "migrate_out": migrate_out,
        "configure": configure,
        "cpu_s": cpu_s,
        "steps": steps,
    }
    while True:
        try:
            name, argument = await asyncio.to_thread(pipe.recv)
        except (EOFError, OSError):
            return
        pipe.send(await known[name](argument))


@dataclass
class Agent:
    """One agent's process, seen from here."""

    name: str
    pipe: Connection
    process: Any
    data_endpoint: str = ""
    peer_endpoint: str = ""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def call(self, name: str, argument: Any = None) -> Any:
        async with self.lock:
            self.pipe.send((name, argument))
            return await asyncio.to_thread(self.pipe.recv)


@asynccontextmanager
async def agents(*configs: AgentConfig) -> AsyncIterator[list[Agent]]:
    """Started side by side; ended when the block is left."""
    spawn = multiprocessing.get_context("spawn")
    started = []
    try:
        for config in configs:
            here, there = spawn.Pipe()
            process = spawn.Process(target=run_agent, args=(config, there), daemon=True)
            process.start()
            there.close()
            started.append(Agent(config.instance_id, here, process))
        for agent in started:
            if not await asyncio.to_thread(agent.pipe.poll, PATIENCE_S):
                raise RuntimeError(f"agent {agent.name} did not start within {PATIENCE_S:g} s")
            agent.data_endpoint, agent.peer_endpoint = agent.pipe.recv()
        yield started
    finally:
        for agent in started:
            agent.pipe.close()
        for agent in started:
            await asyncio.to_thread(agent.process.join, 20.0)
            if agent.process.is_alive():
                agent.process.kill()


# ---------------------------------------------------------------- the gateway


@dataclass
class Stream:
    """Tokens of one request and when each arrived here (``perf_counter``)."""

    request_id: str
    dispatch: int = 1
    home: str = ""
    tokens: list[int] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)
    homes: list[str] = field(default_factory=list)
    """Which engine made each token."""
    finished: bool = False
    held: list[tuple[str, int, list[int], bool, float]] = field(default_factory=list)
    adopted: bool = False

    def gap_ms(self, position: int) -> float:
        """Between the token at ``position`` and the one before it."""
        return 1e3 * (self.at_s[position] - self.at_s[position - 1])

    def first_at(self, home: str, after: int) -> int:
        """Position of the first token from ``after`` on that ``home`` made."""
        return next(i for i in range(after, len(self.homes)) if self.homes[i] == home)


class TimingGateway:
    """Runs its sockets on a thread of its own: what the benchmark computes delays no time stamp."""

    def __init__(self, engine_request: Callable[[str, Sequence[int], dict[str, Any]], bytes]) -> None:
        self.streams: dict[str, Stream] = {}
        self._engine_request = engine_request
        self._seq = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._decoder = msgspec.msgpack.Decoder(ToGateway)
        self._sockets: dict[str, zmq.asyncio.Socket] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)
        self.refused: list[str] = []

    async def connect(self, agent: Agent, configure: Callable[[zmq.asyncio.Socket], None]) -> None:
        await self._there(self._connect(agent, configure))

    async def add(
        self, home: str, request_id: str, prompt: Sequence[int], prior: Sequence[int] = (), **sampling: Any
    ) -> Stream:
        """Start a request, or start it again elsewhere (``prior`` given) under the next number."""
        stream: Stream = await self._there(self._add(home, request_id, prompt, prior, sampling))
        return stream

    async def until(self, stream: Stream, count: int) -> None:
        """Until ``count`` tokens are here (or it is finished)."""
        await self._there(asyncio.wait_for(self._until(stream, count), PATIENCE_S))

    async def abort(self, stream: Stream) -> None:
        name = engine_id(stream.request_id, stream.dispatch)
        await self._there(self._send(stream.home, Abort(engine_ids=[name])))
        stream.finished = True

    async def close(self) -> None:
        await self._there(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def _there(self, coroutine: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    # ---- on the gateway's own loop

    async def _connect(self, agent: Agent, configure: Callable[[zmq.asyncio.Socket], None]) -> None:
        socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt_string(zmq.IDENTITY, GATEWAY_ID)
        configure(socket)
        socket.connect(agent.data_endpoint)
        hello = Hello(gateway_id=GATEWAY_ID, incarnation="1")
        await socket.send(encode(hello))
        assert isinstance(self._decoder.decode(await asyncio.wait_for(socket.recv(), PATIENCE_S)), Ready)
        self._sockets[agent.name] = socket
        self._tasks += [
            asyncio.create_task(self._receive(agent.name, socket)),
            asyncio.create_task(self._greet(socket, hello)),
        ]

    async def _add(
        self,
        home: str,
        request_id: str,
        prompt: Sequence[int],
        prior: Sequence[int],
        sampling: dict[str, Any],
    ) -> Stream:
        stream = self.streams.setdefault(request_id, Stream(request_id, dispatch=0))
        stream.dispatch += 1
        stream.home = home
        self._seq += 1
        message = Add(
            request_id=request_id,
            dispatch=stream.dispatch,
            seq=self._seq,
            engine_request=self._engine_request(request_id, prompt, sampling),
            prior_token_ids=list(prior),
            prompt_tokens=len(prompt),
        )
        await self._send(home, message)
        return stream

    async def _send(self, home: str, message: Message) -> None:
        await self._sockets[home].send(encode(message))

    async def _until(self, stream: Stream, count: int) -> None:
        while len(stream.tokens) < count and not stream.finished:
            change = self._loop.create_future()
            self._changed[stream.request_id].append(change)
            await change

    async def _greet(self, socket: zmq.asyncio.Socket, hello: Hello) -> None:
        while True:
            await asyncio.sleep(0.5)
            await socket.send(encode(hello))

    async def _receive(self, home: str, socket: zmq.asyncio.Socket) -> None:
        while True:
            data = await socket.recv()
            now_s = time.perf_counter()
            message = self._decoder.decode(data)
            match message:
                case Step():
                    self._step(home, message, now_s)
                case AskMove():
                    await socket.send(encode(self._grant(message)))
                case Adopted():
                    self._adopt(home, message)
                case AskOwner():
                    stream = self.streams[message.request_id]
                    verdict = Owner(
                        migration_id=message.migration_id,
                        request_id=message.request_id,
                        dispatch=0 if stream.finished else stream.dispatch,
                    )
                    await socket.send(encode(verdict))

    def _grant(self, ask: AskMove) -> GrantMove:
        request_id, dispatch = split_engine_id(ask.engine_id)
        stream = self.streams[request_id]
        return GrantMove(
            migration_id=ask.migration_id,
            engine_id=ask.engine_id,
            granted=stream.dispatch == dispatch and not stream.finished,
            next_dispatch=dispatch + 1,
        )

    def _adopt(self, home: str, adopted: Adopted) -> None:
        stream = self.streams[split_engine_id(adopted.engine_id)[0]]
        stream.dispatch, stream.home, stream.adopted = stream.dispatch + 1, home, True
        self._take_held(stream)

    def _step(self, home: str, step: Step, now_s: float) -> None:
        outputs = decode_outputs(step.outputs).outputs
        for name, start, output in zip(step.engine_ids, step.starts, outputs, strict=True):
            request_id, dispatch = split_engine_id(name)
            stream = self.streams[request_id]
            if dispatch >= stream.dispatch - 1:
                over = output.finish_reason is not None
                stream.held.append((home, start, list(output.new_token_ids), over, now_s))
                self._take_held(stream)

    def _take_held(self, stream: Stream) -> None:
        """In order of position: a destination's first token may overtake the source's last."""
        stream.held.sort(key=lambda one: one[1])
        while stream.held and stream.held[0][1] <= len(stream.tokens):
            home, start, tokens, over, at_s = stream.held.pop(0)
            for token in tokens[len(stream.tokens) - start :]:
                stream.tokens.append(token)
                stream.at_s.append(at_s)
                stream.homes.append(home)
            stream.finished = stream.finished or over
        for change in self._changed.pop(stream.request_id, ()):
            if not change.done():
                change.set_result(None)

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for socket in self._sockets.values():
            socket.close(linger=0)


def vllm_request(request_id: str, prompt: Sequence[int], sampling: dict[str, Any]) -> bytes:
    """vLLM's encoding, made by its own codec."""
    from engine_agents.vllm_engine import codec
    from engine_agents.vllm_engine.requests import make_request

    return codec.encode_request(make_request(request_id, prompt, **sampling))
