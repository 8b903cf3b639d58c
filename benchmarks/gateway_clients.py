"""Clients of ``benchmarks.gateway``: ordinary ones, ones that only wait, ones that hardly read."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator

import httpx

from benchmarks.gateway_servers import KEY, MODEL

START_LIMIT_S = 300.0
SMALL_BUFFER_BYTES = 4096


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=300,
        limits=httpx.Limits(max_connections=512, max_keepalive_connections=512),
    )


async def one_token(http: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "prompt": "What does a request cost?", "max_tokens": 1}
    (await http.post("/v1/completions", json=body)).raise_for_status()


async def stream(http: httpx.AsyncClient, tokens: int) -> float:
    """Time to the first chunk."""
    body = {"model": MODEL, "prompt": "Tell", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    started = time.perf_counter()
    first = 0.0
    async with http.stream("POST", "/v1/completions", json=body) as reply:
        reply.raise_for_status()
        async for _ in reply.aiter_raw():
            first = first or time.perf_counter() - started
    return first


async def gaps(http: httpx.AsyncClient, tokens: int) -> list[float]:
    """Times between the chunks of a stream, the first one left out."""
    body = {"model": MODEL, "prompt": "Tell", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    times = []
    async with http.stream("POST", "/v1/completions", json=body) as reply:
        reply.raise_for_status()
        async for _ in reply.aiter_raw():
            times.append(time.perf_counter())
    return [after - before for before, after in itertools.pairwise(times[1:])]


async def tokenize_s(http: httpx.AsyncClient) -> float:
    """How long a fresh request takes that needs the whole door and no engine."""
    started = time.perf_counter()
    (await http.post("/tokenize", json={"model": MODEL, "prompt": "How long?"})).raise_for_status()
    return time.perf_counter() - started


def raw_request(tokens: int) -> bytes:
    """A streaming request as it stands on the wire."""
    asked = {"model": MODEL, "prompt": "Wait", "max_tokens": tokens, "stream": True, "ignore_eos": True}
    body = json.dumps(asked).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class IdleStreams:
    """Connections whose answer has not begun."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._request = raw_request(9)
        self._open: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, count: int) -> None:
        for _ in range(0, count, 100):
            await asyncio.gather(*(self._open_one() for _ in range(100)))
            await asyncio.sleep(0.05)

    async def _open_one(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        self._open.append((reader, writer))

    @property
    def waiting(self) -> int:
        """Those that the server has neither refused nor closed; one that is silent for long gets comments."""
        return sum(not reader.at_eof() and _is_open(reader) for reader, _ in self._open)

    def close(self) -> None:
        for _, writer in self._open:
            writer.transport.abort()


def _is_open(reader: asyncio.StreamReader) -> bool:
    begun = bytes(reader._buffer[:12])  # type: ignore[attr-defined]
    return begun in (b"", b"HTTP/1.1 200")


@contextlib.asynccontextmanager
async def readers(port: int, count: int, tokens: int, *, slow: bool) -> AsyncIterator[None]:
    """So many streams beside what is measured; slow ones take a byte a second."""
    loop = asyncio.get_running_loop()
    sockets = []
    for _ in range(count):
        each = socket.socket()
        if slow:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        each.setblocking(False)
        await loop.sock_connect(each, ("127.0.0.1", port))
        await loop.sock_sendall(each, raw_request(tokens))
        sockets.append(each)

    async def read(each: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while await loop.sock_recv(each, 1 if slow else 65_536):  # noqa: ASYNC110 - slow is what it is for
                await asyncio.sleep(1.0 if slow else 0.0)

    tasks = [asyncio.create_task(read(each)) for each in sockets]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in sockets:
            each.close()


async def wait_until_serving(port: int) -> None:
    async with client(port) as http, asyncio.timeout(START_LIMIT_S):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                (await http.get("/v1/models")).raise_for_status()
                return
            await asyncio.sleep(0.5)


async def wait_until_answering(port: int, limit_s: float = START_LIMIT_S) -> None:
    async with client(port) as http, asyncio.timeout(limit_s):
        while True:
            try:
                await one_token(http)
                return
            except httpx.HTTPError:
                await asyncio.sleep(0.5)
