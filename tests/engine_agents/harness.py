"""Agents in this process and a bare gateway to talk to them: real sockets, real messages, no Ray."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from engine_agents.config import AgentConfig
from engine_agents.engines.paced import PacedEngine, build
from engine_agents.engines.paced_batch import PacedBatch
from engine_agents.engines.paced_requests import PacedOptions, live_request
from engine_agents.engines.paced_wire import PacedImage, decode_outputs, encode_request
from engine_agents.link_security import LinkKeys, gateway_keys
from engine_agents.messages import (
    Abort,
    Add,
    Adopted,
    AskMove,
    AskOwner,
    GrantMove,
    Heartbeat,
    Hello,
    Message,
    Owner,
    Preempted,
    Ready,
    Refused,
    Step,
    ToGateway,
    encode,
    engine_id,
    split_engine_id,
)
from engine_agents.serve import AgentServer

PATIENCE_S = 60.0
_decoder = msgspec.msgpack.Decoder(ToGateway)


def agent_config(instance_id: str = "a", **changes: Any) -> AgentConfig:
    """A small, fast paced agent; Redis is off and silence is tolerated unless a test says otherwise."""
    engine_args = {"base_step_ms": 1.0, "per_sequence_ms": 0.0, "per_prefill_token_ms": 0.0}
    defaults: dict[str, Any] = {
        "instance_id": instance_id,
        "pool": "pool",
        "served_model": "tiny",
        "model": "paced",
        "redis_url": "",
        "engine": "paced",
        "kv_memory_bytes": 4 * 2**20,
        "gateway_timeout_s": 30.0,
        "stage_timeout_s": 20.0,
    }
    engine_args |= changes.pop("engine_args", {})
    return AgentConfig(**(defaults | changes), engine_args=engine_args)


@asynccontextmanager
async def running_agent(instance_id: str = "a", **changes: Any) -> AsyncIterator[AgentServer]:
    """A started paced agent; its engine is ``server.engine``."""
    config = agent_config(instance_id, **changes)
    server = AgentServer(config, build(config))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def swap(target: Any, method: str, replacement: Any) -> None:
    """Give one object another method, to make a thing go wrong at a chosen moment."""
    setattr(target, method, replacement)


def paced(server: AgentServer) -> PacedEngine:
    assert isinstance(server.engine, PacedEngine)
    return server.engine


async def _ready(socket: zmq.asyncio.Socket) -> Ready:
    """Whoever takes over a name may first get what was meant for the one before."""
    while not isinstance(message := _decoder.decode(await socket.recv()), Ready):
        pass
    return message


class BareGateway:
    """A gateway's wire side: one DEALER per agent, tokens by request, and the judge of moves.

    It keeps tokens of exactly one dispatch per request and notes everything else.
    """

    def __init__(self, gateway_id: str = "gateway", incarnation: str = "g1") -> None:
        self.gateway_id = gateway_id
        self.incarnation = incarnation
        self.tokens: dict[str, dict[int, int]] = defaultdict(dict)
        self.duplicates: list[tuple[str, int]] = []
        self.finished: dict[str, int] = {}
        self.refused: dict[str, Refused] = {}
        self.preempted: list[str] = []
        self.adopted: list[Adopted] = []
        self.refused_adoptions: list[str] = []
        self.ready: dict[str, Ready] = {}
        self.heartbeats: dict[str, Heartbeat] = {}
        self.owner: dict[str, int] = {}
        self.issued: dict[str, int] = {}
        """Highest dispatch number given out; none is ever given out twice."""
        self.pending: dict[str, int] = {}
        self.revoked: set[str] = set()
        self.grants = True
        self.answer_owner = True
        self.seq = 0
        self.keys: LinkKeys | None = None
        self.decode: Callable[[bytes], Any] = decode_outputs
        self._context = zmq.asyncio.Context()
        self._sockets: dict[str, zmq.asyncio.Socket] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()

    async def connect(self, endpoint: str) -> str:
        """Connect and wait for Ready; returns the instance id."""
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.setsockopt_string(zmq.IDENTITY, self.gateway_id)
        if self.keys is not None:
            self.keys.speak(socket)
        socket.connect(endpoint)
        hello = Hello(gateway_id=self.gateway_id, incarnation=self.incarnation)
        await socket.send(encode(hello))
        ready = await asyncio.wait_for(_ready(socket), PATIENCE_S)
        self.ready[ready.instance_id] = ready
        self._sockets[ready.instance_id] = socket
        self._tasks.append(asyncio.create_task(self._receive(ready.instance_id, socket)))
        self._tasks.append(asyncio.create_task(self._say_hello(socket, hello)))
        return ready.instance_id

    async def close(self) -> None:
        self.fall_silent()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for socket in self._sockets.values():
            socket.close()
        self._context.destroy(linger=0)

    def break_links(self) -> None:
        """As when the process is killed: the connections break."""
        self.fall_silent()
        for socket in self._sockets.values():
            socket.close(linger=0)

    def fall_silent(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def send(self, instance_id: str, message: Message) -> None:
        await self._sockets[instance_id].send(encode(message))

    async def add(
        self,
        instance_id: str,
        request_id: str,
        prompt: list[int],
        *,
        dispatch: int = 1,
        prior: list[int] | None = None,
        engine_request: bytes = b"",
        only_if_fits: bool = False,
        slo_class: str = "standard",
        rank: int = 1,
        **sampling: Any,
    ) -> str:
        self.seq += 1
        self.owner[request_id] = self.issued[request_id] = dispatch
        message = Add(
            request_id=request_id,
            dispatch=dispatch,
            seq=self.seq,
            engine_request=engine_request or encode_request(request_id, prompt, **sampling),
            prior_token_ids=prior or [],
            prompt_tokens=len(prompt),
            only_if_fits=only_if_fits,
            slo_class=slo_class,
            rank=rank,
            tenant="demo",
        )
        await self.send(instance_id, message)
        return engine_id(request_id, dispatch)

    async def abort(self, instance_id: str, *engine_ids: str) -> None:
        await self.send(instance_id, Abort(engine_ids=list(engine_ids)))

    async def until(self, condition: Callable[[], Any], what: str = "") -> None:
        """Wait until ``condition`` holds; fails with what has arrived so far."""
        try:
            async with asyncio.timeout(PATIENCE_S), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            progress = {n: len(tokens) for n, tokens in self.tokens.items() if n not in self.finished}
            raise AssertionError(f"waited in vain for {what or condition}; unfinished: {progress}") from None

    async def until_tokens(self, request_id: str, count: int) -> None:
        await self.until(lambda: len(self.tokens[request_id]) >= count, f"{count} tokens of {request_id}")

    async def until_finished(self, *request_ids: str) -> None:
        def left() -> list[str]:
            return [name for name in request_ids if name not in self.finished]

        await self.until(lambda: not left(), "requests to finish")

    async def until_adoptions(self, count: int) -> None:
        await self.until(lambda: len(self.adopted) >= count, f"{count} adoptions")

    def text(self, request_id: str) -> list[int]:
        """Tokens in order; fails on a gap."""
        tokens = self.tokens[request_id]
        assert sorted(tokens) == list(range(len(tokens))), f"gap in {sorted(tokens)}"
        return [tokens[position] for position in range(len(tokens))]

    async def _say_hello(self, socket: zmq.asyncio.Socket, hello: Hello) -> None:
        while True:
            await asyncio.sleep(0.5)
            await socket.send(encode(hello))

    async def _receive(self, instance_id: str, socket: zmq.asyncio.Socket) -> None:
        while True:
            message = _decoder.decode(await socket.recv())
            async with self._changed:
                answer = self._take(instance_id, message)
                self._changed.notify_all()
            if answer is not None:
                await socket.send(encode(answer))

    def _take(self, instance_id: str, message: ToGateway) -> Message | None:
        match message:
            case Step():
                self._step(message)
            case Refused():
                self.refused[message.engine_id] = message
            case Preempted():
                self.preempted.append(message.engine_id)
            case Heartbeat():
                self.heartbeats[instance_id] = message
            case Ready():
                self.ready[instance_id] = message
            case AskMove():
                return self._grant(message)
            case Adopted():
                return self._adopt(message)
            case AskOwner():
                return self._judge(message)
        return None

    def _step(self, step: Step) -> None:
        outputs = self.decode(step.outputs).outputs
        for name, start, output in zip(step.engine_ids, step.starts, outputs, strict=True):
            request_id, dispatch = split_engine_id(name)
            if name in self.revoked or dispatch > self.owner.get(request_id, 0):
                continue
            for position, token in enumerate(output.new_token_ids, start):
                if position in self.tokens[request_id]:
                    self.duplicates.append((request_id, position))
                self.tokens[request_id][position] = token
            if output.finish_reason is not None:
                self.finished[request_id] = output.finish_reason

    def _grant(self, ask: AskMove) -> GrantMove:
        request_id, dispatch = split_engine_id(ask.engine_id)
        granted = self.grants and self.owner[request_id] == dispatch and request_id not in self.finished
        if granted:
            self._revoke_pending(request_id)
            self.issued[request_id] += 1
            self.pending[request_id] = self.issued[request_id]
        return GrantMove(
            migration_id=ask.migration_id,
            engine_id=ask.engine_id,
            granted=granted,
            next_dispatch=self.issued[request_id] if granted else 0,
            reason="" if granted else "not now",
        )

    def _revoke_pending(self, request_id: str) -> None:
        pending = self.pending.pop(request_id, None)
        if pending is not None:
            self.revoked.add(engine_id(request_id, pending))

    def _adopt(self, adopted: Adopted) -> Message | None:
        if adopted.engine_id in self.revoked:
            self.refused_adoptions.append(adopted.engine_id)
            return Abort(engine_ids=[adopted.engine_id])
        self.adopted.append(adopted)
        request_id, dispatch = split_engine_id(adopted.engine_id)
        self.owner[request_id] = dispatch
        self.pending.pop(request_id, None)
        return None

    def _judge(self, ask: AskOwner) -> Message | None:
        if not self.answer_owner:
            return None
        owner = 0 if ask.request_id in self.finished else self.owner[ask.request_id]
        self._revoke_pending(ask.request_id)
        return Owner(migration_id=ask.migration_id, request_id=ask.request_id, dispatch=owner)


@asynccontextmanager
async def gateway_to(*agents: AgentServer, incarnation: str = "g1") -> AsyncIterator[BareGateway]:
    gateway = BareGateway(incarnation=incarnation)
    try:
        for agent in agents:
            gateway.keys = gateway_keys(agent.config.link_secret)
            await gateway.connect(agent.data_endpoint)
        yield gateway
    finally:
        await gateway.close()


def undisturbed(request_id: str, max_tokens: int, prompt: list[int], **sampling: Any) -> list[int]:
    """The tokens of the same request on an engine where nothing happens; no clock, no thread."""
    options = PacedOptions()
    batch = PacedBatch(options, 4096 // options.block_size_tokens + 2)
    request = encode_request(request_id, prompt, max_tokens=max_tokens, **sampling)
    image = PacedImage(request, slo_class="standard", tenant="", rank=1, arrived_at_s=0.0)
    batch.add(live_request(engine_id(request_id, 1), "gateway", image, []))
    tokens = []
    while batch.live:
        tokens += [made.token_id for made in batch.compute(batch.schedule()[0])]
    return tokens


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """Poll a condition that no message announces."""
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


def idle(*agents: AgentServer) -> bool:
    """Nothing used, nothing reserved, nothing known: every block is back."""
    loads = [agent.engine.load() for agent in agents]
    return all(
        load.used_blocks == load.reserved_blocks == load.running == load.waiting == 0 for load in loads
    )
