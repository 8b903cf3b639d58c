"""The agent's door for gateways: one ROUTER socket, MessagePack both ways.

A gateway is known from its Hello on and gone when it is silent for
``gateway_timeout_s`` or returns under a new incarnation. Sending never waits: a
gateway that cannot take a message (gone, or thousands of steps behind) loses
its connection state, and what it had here is aborted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import zmq
import zmq.asyncio

from engine_agents.link_security import LinkKeys, watch_listener
from engine_agents.messages import (
    PROTOCOL_VERSION,
    Abort,
    Add,
    GrantMove,
    Hello,
    Message,
    Owner,
    SetRank,
    ToAgent,
    encode,
)

logger = logging.getLogger(__name__)

LARGEST_MESSAGE_BYTES = 256 * 2**20
"""A request with its images; anything bigger breaks the connection."""
SEND_HIGH_WATER_MARK = 20_000
"""Messages queued for one gateway before it counts as gone (about a minute of steps)."""

_decoder = msgspec.msgpack.Decoder(ToAgent)


@dataclass(slots=True)
class Gateway:
    """One connected gateway process."""

    gateway_id: str
    incarnation: str
    identity: bytes
    engine_version: str
    heard_at: float
    """Event-loop time of its last message."""
    steps_sent: int = 0
    highest_seq: int = 0
    unsettled: set[int] = field(default_factory=set)
    """``Add.seq`` of Adds on their way into the engine."""

    @property
    def client(self) -> str:
        return client_key(self.gateway_id, self.incarnation)

    @property
    def seen_seq(self) -> int:
        """Highest ``Add.seq`` up to which every Add is taken into account (or refused)."""
        return min(self.unsettled) - 1 if self.unsettled else self.highest_seq

    def began(self, seq: int) -> None:
        self.highest_seq = max(self.highest_seq, seq)
        self.unsettled.add(seq)


def client_key(gateway_id: str, incarnation: str) -> str:
    """Names one gateway process towards the engine."""
    return f"{gateway_id}@{incarnation}"


class GatewayDesk(Protocol):
    """What the door hands on; implemented by the agent's server."""

    def ready_for(self, hello: Hello) -> Message | None:
        """The answer to a Hello; ``None`` while the engine is not up: nobody connects then."""

    def on_add(self, gateway: Gateway, add: Add) -> None: ...

    def on_abort(self, gateway: Gateway, abort: Abort) -> None: ...

    def on_set_rank(self, gateway: Gateway, change: SetRank) -> None: ...

    def on_verdict(self, verdict: GrantMove | Owner) -> None: ...

    def on_gateway_gone(self, gateway: Gateway, why: str) -> None: ...

    def beat(self) -> None:
        """Send a heartbeat to every gateway now."""

    def on_refused_link(self, why: str) -> None:
        """Somebody who is not known wanted to connect."""


class GatewayLink:
    """See the module. All methods are called on the agent's event loop."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        desk: GatewayDesk,
        *,
        silence_limit_s: float,
        keys: LinkKeys | None = None,
    ) -> None:
        self._desk = desk
        self._silence_limit_s = silence_limit_s
        self._gateways: dict[bytes, Gateway] = {}
        self._by_client: dict[str, Gateway] = {}
        self.refused_messages = 0
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.sndhwm = SEND_HIGH_WATER_MARK
        self._socket.rcvhwm = SEND_HIGH_WATER_MARK
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE_BYTES)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        if keys is not None:
            keys.listen(self._socket)
        self._tasks: list[asyncio.Task[None]] = []

    def bind(self, host: str, port: int) -> str:
        """Listen; returns the endpoint that gateways connect to. Raises ``OSError`` for a taken port."""
        return bind(self._socket, host, port)

    def start(self) -> None:
        # A killed gateway's connection breaks at once, and then nothing can be sent to it: a heartbeat
        # to all finds out whose it was. Silence is left for one that hangs or whose host is lost.
        watching = watch_listener(
            self._socket, refused=self._desk.on_refused_link, disconnected=self._desk.beat
        )
        self._tasks = [
            asyncio.create_task(self._receive()),
            asyncio.create_task(self._watch_silence()),
            asyncio.create_task(watching),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def gateways(self) -> Iterable[Gateway]:
        return tuple(self._gateways.values())

    def find(self, client: str) -> Gateway | None:
        return self._by_client.get(client)

    def send(self, client: str, message: Message) -> bool:
        """Hand one message to the socket; False when that gateway is not connected (any more)."""
        gateway = self._by_client.get(client)
        if gateway is None:
            return False
        error = self._send(gateway.identity, message)
        if error is not None:
            self._forget(gateway, f"cannot be reached ({error})")
        return error is None

    def _send(self, identity: bytes, message: Message) -> BaseException | None:
        sent = asyncio.ensure_future(
            self._socket.send_multipart([identity, encode(message)], flags=zmq.NOBLOCK)
        )
        return sent.exception() if sent.done() else None

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart()
            try:
                self._handle(frames[0], _decoder.decode(frames[1]))
            except (msgspec.MsgspecError, IndexError) as error:
                self.refused_messages += 1
                logger.warning("refused a gateway's message: %s", error)
            except Exception:
                logger.exception("handling a gateway's message failed")

    def _handle(self, identity: bytes, message: ToAgent) -> None:
        if isinstance(message, Hello):
            self._hello(identity, message)
            return
        gateway = self._gateways.get(identity)
        if gateway is None:
            # It believes to be connected to our former self; its next Hello, half a second away, mends it.
            self.refused_messages += 1
            return
        gateway.heard_at = asyncio.get_running_loop().time()
        match message:
            case Add():
                self._desk.on_add(gateway, message)
            case Abort():
                self._desk.on_abort(gateway, message)
            case SetRank():
                self._desk.on_set_rank(gateway, message)
            case GrantMove() | Owner():
                self._desk.on_verdict(message)

    def _hello(self, identity: bytes, hello: Hello) -> None:
        ready = self._desk.ready_for(hello)
        if ready is None:
            return
        if hello.protocol_version != PROTOCOL_VERSION:
            self.refused_messages += 1
            self._send(identity, ready)
            return
        gateway = self._gateways.get(identity)
        if gateway is not None and gateway.incarnation != hello.incarnation:
            self._forget(gateway, "returned under a new incarnation")
            gateway = None
        now = asyncio.get_running_loop().time()
        if gateway is None:
            gateway = Gateway(hello.gateway_id, hello.incarnation, identity, hello.engine_version, now)
            self._gateways[identity] = self._by_client[gateway.client] = gateway
            logger.info("gateway %s connected", gateway.client)
        gateway.heard_at = now
        self.send(gateway.client, ready)

    async def _watch_silence(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            slept_from = loop.time()
            await asyncio.sleep(self._silence_limit_s / 8)
            if loop.time() - slept_from > self._silence_limit_s / 2:
                self._forgive(loop.time() - slept_from)
            for gateway in self.gateways():
                if loop.time() - gateway.heard_at > self._silence_limit_s:
                    self._forget(gateway, f"silent for {self._silence_limit_s:g} s")

    def _forgive(self, stall_s: float) -> None:
        """We ourselves stood still, so nobody could be heard: that is not their silence."""
        for gateway in self.gateways():
            gateway.heard_at += stall_s

    def _forget(self, gateway: Gateway, why: str) -> None:
        self._gateways.pop(gateway.identity, None)
        if self._by_client.pop(gateway.client, None) is not None:
            logger.info("gateway %s is gone: %s", gateway.client, why)
            self._desk.on_gateway_gone(gateway, why)


def bind(socket: zmq.asyncio.Socket, host: str, port: int) -> str:
    """Bind to ``host:port`` (0 = any free port); returns the endpoint. Raises ``OSError`` in plain words."""
    try:
        socket.bind(f"tcp://{host}:{port or '*'}")
    except zmq.ZMQError as error:
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return socket.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
