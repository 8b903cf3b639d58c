"""Uvicorn's HTTP/1.1 with limits on what a client may do before it has sent a whole request head.

Uvicorn bounds neither the time nor the size of a request's head, nor the number of
connections in a way that answers in OpenAI's shape. It also lends applications no way
to drop a connection whose client does not read: the extension :data:`CUT` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from controlplane.gateway.errors import ApiError, bad_http, head_too_large, too_many_connections
from controlplane.gateway.reply import CUT

logger = logging.getLogger(__name__)

HEAD_LIMIT_S = 10.0
"""From the first byte (or the connection) to the end of the head. Slower clients are cut off."""
MAX_HEAD_BYTES = 64 * 2**10
MAX_CONNECTIONS = 15_000


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    head_limit_s = HEAD_LIMIT_S
    max_connections = MAX_CONNECTIONS
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _head_is_due = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(too_many_connections(self.max_connections))
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_between_requests() and self._head_timer is None:
            self._next_head(data)
            return
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        # Whatever came in one piece with the rest of the head is body and has limits of its own.
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(head_too_large(MAX_HEAD_BYTES))

    def _next_head(self, data: bytes) -> None:
        """The first piece of another request: it nearly always holds the whole head, and needs no timer."""
        self._head_is_due = True
        super().data_received(data)
        if self._head_is_due and not self.transport.is_closing():
            self._await_head()
            self._head_bytes = len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(head_too_large(MAX_HEAD_BYTES))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)["extensions"] = {CUT: self._cut}

    def on_headers_complete(self) -> None:
        self._head_complete()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's answer to what is no HTTP."""
        self._refuse(bad_http(msg))

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(self.head_limit_s, self._head_too_slow)

    def _head_complete(self) -> None:
        self._head_is_due = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _refuse(self, error: ApiError) -> None:
        self._head_complete()
        if self.transport.is_closing():
            return
        head = f"HTTP/1.1 {error.status} \r\n" + "".join(
            f"{name}: {value}\r\n"
            for name, value in {
                "content-type": "application/json",
                "content-length": str(len(error.body)),
                "connection": "close",
                **{name.decode(): value.decode() for name, value in error.headers},
            }.items()
        )
        self.transport.write(head.encode() + b"\r\n" + error.body)
        self.transport.close()

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def bounded(head_limit_s: float, max_connections: int) -> Callable[..., BoundedProtocol]:
    """The protocol with other limits."""
    limits = {"head_limit_s": head_limit_s, "max_connections": max_connections}
    return type("BoundedProtocol", (BoundedProtocol,), limits)
