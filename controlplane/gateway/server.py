"""The HTTP server of a gateway process, and of the public port in front of several."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from controlplane.gateway.http_protocol import BoundedProtocol

logger = logging.getLogger("controlplane.gateway")

SEND_BUFFER_BYTES = 128 * 2**10
"""What the kernel holds of a stream that its client does not read; by default it would be megabytes."""


class Server(uvicorn.Server):
    """Uvicorn, with signals that stop it but do not kill the process before its own clean-up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop_on_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)

    def _stop(self, number: int) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            logger.info("%s: open streams may end, new ones are not taken", signal.Signals(number).name)
        self.should_exit = True


def server_config(
    application: Any, *, grace_s: int | None = None, port: int = 0, date_header: bool = True
) -> uvicorn.Config:
    """How an application is served to clients; ``grace_s`` is what open streams get when it stops."""
    return uvicorn.Config(
        application,
        port=port,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=date_header,
        proxy_headers=False,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=75,
        backlog=4096,
    )


def listen(host: str, port: int) -> socket.socket:
    """Bind before anything slow, so that a taken port is said at once. Raises ``OSError`` in plain words."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}:{port} ({error.strerror}); choose another --port.") from None
    return listener
