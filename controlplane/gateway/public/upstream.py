"""HTTP/1.1 to a gateway: one request at a time per connection, the answer piece by piece.

A small client of our own, because a token's way leads through it: pieces are handed on
as they come, and a client that reads slowly stops the reading from the gateway.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import httptools

CONNECT_LIMIT_S = 3.0
HIGH_WATER_BYTES = 256 * 2**10
MAX_IDLE = 64
"""Connections kept open to each gateway while nothing uses them."""
IDLE_LIMIT_S = 30.0
"""Below the gateways' own: they must never close what is about to be used."""
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)

Headers = list[tuple[bytes, bytes]]


class UpstreamError(Exception):
    """The gateway cannot be reached, or broke off."""


class Connection(asyncio.Protocol):
    """One connection to one gateway."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._news = asyncio.Event()
        self.lost = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: deque[bytes] = deque()
        self._held_bytes = 0
        self._paused = False
        self.status = 0
        self.headers: Headers = []
        self.complete = False

    # ---------------------------------------------------------------- asyncio and the parser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._news.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()
        if self._held_bytes > HIGH_WATER_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._held_bytes += len(piece)

    def on_message_complete(self) -> None:
        self.complete = True

    # ---------------------------------------------------------------- one request

    async def ask(self, head: bytes, body: bytes) -> None:
        """Send a request; returns when the answer's head is here. Raises :class:`UpstreamError`."""
        self._reset()
        assert self._transport is not None
        self._transport.write(head + body)
        while not self.status:
            await self._more()

    async def piece(self) -> bytes:
        """What has arrived of the body since the last call, empty at its end; raises as :meth:`ask`."""
        while not self._pieces:
            if self.complete:
                return b""
            await self._more()
        found = self._pieces.popleft() if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._held_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return found

    async def _more(self) -> None:
        if self.lost and not self.complete:
            raise UpstreamError("it broke off")
        self._news.clear()
        await self._news.wait()

    @property
    def reusable(self) -> bool:
        closes = any(name == b"connection" and value.lower() == b"close" for name, value in self.headers)
        return self.complete and not self.lost and not closes

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


@dataclass
class Backend:
    """One gateway process, and the connections to it."""

    host: str
    port: int
    model: str
    in_flight: int = 0
    down_until_s: float = 0.0
    failures: int = 0
    idle: list[tuple[Connection, float]] = field(default_factory=list)

    async def connection(self, now_s: float) -> tuple[Connection, bool]:
        """An idle one or a new one, and whether it was used before. Raises :class:`UpstreamError`."""
        while self.idle:
            connection, since_s = self.idle.pop()
            if not connection.lost and now_s - since_s < IDLE_LIMIT_S:
                return connection, True
            connection.close()
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                made = await asyncio.get_running_loop().create_connection(Connection, self.host, self.port)
        except (OSError, TimeoutError) as error:
            raise UpstreamError(f"cannot be reached: {type(error).__name__}") from None
        return made[1], False

    def give_back(self, connection: Connection, now_s: float) -> None:
        if connection.reusable and len(self.idle) < MAX_IDLE:
            self.idle.append((connection, now_s))
        else:
            connection.close()

    def close(self) -> None:
        for connection, _ in self.idle:
            connection.close()
        self.idle.clear()


def request_head(
    method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], peer: str, length: int
) -> bytes:
    """The request as it goes on: hop-by-hop headers left out, the client's address added."""
    lines = [b"%s %s HTTP/1.1\r\n" % (method.encode(), target)]
    forwarded = []
    for name, value in headers:
        if name == b"x-forwarded-for":
            forwarded.append(value)
        elif name not in HOP_BY_HOP and name != b"content-length":
            lines.append(b"%s: %s\r\n" % (name, value))
    forwarded.append(peer.encode())
    lines.append(b"x-forwarded-for: %s\r\n" % b", ".join(forwarded))
    lines.append(b"content-length: %d\r\n\r\n" % length)
    return b"".join(lines)


def answer_headers(headers: Headers) -> Headers:
    return [(name, value) for name, value in headers if name not in HOP_BY_HOP]
