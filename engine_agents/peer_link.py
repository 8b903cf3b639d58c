"""Links between agents: one ROUTER to be reached at, two DEALERs per peer to reach it.

Control messages and bulk data take separate connections, so that the COMMIT of
one migration never waits behind the blocks of another. A connection that breaks
is told to every migration that uses it; ZMQ mends it by itself for the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable
from typing import Protocol

import msgspec
import zmq
import zmq.asyncio
from zmq.utils.monitor import parse_monitor_message

from engine_agents.gateway_link import bind
from engine_agents.link_security import LinkKeys, watch_listener
from engine_agents.messages import (
    Message,
    ToDestination,
    ToSource,
    encode,
)
from engine_agents.migration.ports import LinkLost
from engine_agents.migration.transfer import Buffer

logger = logging.getLogger(__name__)

BULK_MESSAGES_QUEUED = 4
"""Chunks that may wait in a socket, on either side: bounds memory and is the back-pressure."""
CONTROL_MESSAGES_QUEUED = 10_000
LARGEST_MESSAGE_BYTES = 2**30
"""The tail of a long prefill on a large model; anything bigger breaks the connection."""
PROBE_INTERVAL_MS = 500
PROBE_TIMEOUT_MS = 2_000
"""A peer whose process or host has stopped counts as lost after so long."""

_to_destination = msgspec.msgpack.Decoder(ToDestination)
_to_source = msgspec.msgpack.Decoder(ToSource)


class PeerDesk(Protocol):
    """Takes what peers send us as a destination."""

    async def from_source(
        self, reply_to: bytes, message: ToDestination, frame: memoryview | None
    ) -> None: ...


class PeerLink:
    """This agent's end towards all other agents; used on the agent's event loop only."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        desk: PeerDesk,
        *,
        name: str,
        keys: LinkKeys | None = None,
        on_refused: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._context = context
        self._keys = keys
        self._on_refused = on_refused
        self._desk = desk
        self._name = name
        self._connections: dict[str, PeerConnection] = {}
        self._closing: set[asyncio.Future[None]] = set()
        self.refused_messages = 0
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.rcvhwm = BULK_MESSAGES_QUEUED
        self._socket.sndhwm = CONTROL_MESSAGES_QUEUED
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        # A peer that lost its connection without our hearing of it comes back under the same identity.
        self._socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE_BYTES)
        if keys is not None:
            keys.listen(self._socket)
        self._tasks: list[asyncio.Task[None]] = []

    def bind(self, host: str, port: int) -> str:
        return bind(self._socket, host, port)

    def start(self) -> None:
        watching = watch_listener(self._socket, refused=self._on_refused, disconnected=lambda: None)
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(watching)]

    async def close(self) -> None:
        await asyncio.gather(*self._closing, *(one.close() for one in self._connections.values()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()

    def connection(self, endpoint: str) -> PeerConnection:
        """The connection to a peer, made on first use. Raises ``ValueError`` for a malformed endpoint."""
        self._forget_the_dead(endpoint)
        found = self._connections.get(endpoint)
        if found is None:
            found = self._connections[endpoint] = PeerConnection(
                self._context, endpoint, self._name, self._keys
            )
        return found

    def _forget_the_dead(self, wanted: str) -> None:
        """An agent that restarted listens elsewhere: nobody will ever answer at its old endpoint."""
        dead = [at for at, one in self._connections.items() if at != wanted and one.dead]
        for endpoint in dead:
            closing = asyncio.ensure_future(self._connections.pop(endpoint).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def reply(self, reply_to: bytes, message: Message) -> bool:
        """Answer a source; never waits. False when it is not connected any more."""
        sent = asyncio.ensure_future(
            self._socket.send_multipart([reply_to, encode(message)], flags=zmq.NOBLOCK)
        )
        return sent.done() and sent.exception() is None

    async def _receive(self) -> None:
        while True:
            frames = await self._socket.recv_multipart(copy=False)
            try:
                message = _to_destination.decode(frames[1].buffer)
                frame = frames[2].buffer if len(frames) > 2 else None
                await self._desk.from_source(frames[0].bytes, message, frame)
            except (msgspec.MsgspecError, IndexError) as error:
                self.refused_messages += 1
                logger.warning("refused a peer's message: %s", error)
            except Exception:
                logger.exception("handling a peer's message failed")


class PeerConnection:
    """To one peer. Migrations register to receive its answers and to hear when the link breaks."""

    def __init__(
        self, context: zmq.asyncio.Context, endpoint: str, name: str, keys: LinkKeys | None = None
    ) -> None:
        self._listeners: dict[str, Callable[[ToSource | LinkLost], None]] = {}
        # A peer may be reached at two addresses at once, the old one and the new: each has its own answers.
        name = f"{name}/{secrets.token_hex(4)}"
        self._control = _dealer(context, endpoint, f"{name}/control", CONTROL_MESSAGES_QUEUED)
        self._bulk = _dealer(context, endpoint, f"{name}/bulk", BULK_MESSAGES_QUEUED)
        if keys is not None:
            keys.speak(self._control)
            keys.speak(self._bulk)
        self._monitor = self._control.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CONNECT_RETRIED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
        )
        self._connected = False
        self._known = asyncio.Event()
        """Set once the first attempt to connect has succeeded or failed."""
        try:
            self._control.connect(endpoint)
            self._bulk.connect(endpoint)
        except zmq.ZMQError as error:
            raise ValueError(f"destination_peer_endpoint: {endpoint!r}: {error.strerror}") from error
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._watch())]

    @property
    def dead(self) -> bool:
        """Not connected, and nobody waits for it."""
        return self._known.is_set() and not self._connected and not self._listeners

    def register(self, migration_id: str, listener: Callable[[ToSource | LinkLost], None]) -> None:
        self._listeners[migration_id] = listener

    def unregister(self, migration_id: str) -> None:
        self._listeners.pop(migration_id, None)

    async def send(self, message: Message, frame: Buffer | None = None, *, within_s: float) -> bool:
        """Send a control message; False when the peer is not connected (at once if that is known)."""
        try:
            async with asyncio.timeout(within_s):
                await self._known.wait()
                if not self._connected:
                    return False
                await self._control.send_multipart(_frames(message, frame), copy=False)
        except (TimeoutError, zmq.ZMQError):
            return False
        return True

    def post(self, message: Message) -> None:
        """Send a control message if the peer is connected now; nobody waits for it."""
        if self._connected:
            asyncio.ensure_future(self._control.send(encode(message), flags=zmq.NOBLOCK)).add_done_callback(
                lambda sent: sent.exception()
            )

    async def send_bulk(self, message: Message, frame: Buffer | None) -> None:
        """Send data; waits while the peer is behind."""
        await self._bulk.send_multipart(_frames(message, frame), copy=False)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._control.disable_monitor()
        for socket in (self._monitor, self._control, self._bulk):
            socket.close(linger=0)

    async def _receive(self) -> None:
        while True:
            data = await self._control.recv()
            with contextlib.suppress(msgspec.MsgspecError):
                message = _to_source.decode(data)
                listener = self._listeners.get(message.migration_id)
                if listener is not None:
                    listener(message)

    async def _watch(self) -> None:
        while True:
            event = parse_monitor_message(await self._monitor.recv_multipart())["event"]
            self._connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._known.set()
            if self._connected:
                continue
            for listener in tuple(self._listeners.values()):
                listener(LinkLost())


def _dealer(context: zmq.asyncio.Context, endpoint: str, name: str, queued: int) -> zmq.asyncio.Socket:
    socket: zmq.asyncio.Socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.sndhwm = queued
    socket.rcvhwm = CONTROL_MESSAGES_QUEUED
    socket.setsockopt_string(zmq.IDENTITY, name)
    # Nothing is queued for a peer that is not there: what arrives late would only be refused.
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.HEARTBEAT_IVL, PROBE_INTERVAL_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, PROBE_TIMEOUT_MS)
    return socket


def _frames(message: Message, frame: Buffer | None) -> list[Buffer]:
    return [encode(message)] if frame is None else [encode(message), frame]
