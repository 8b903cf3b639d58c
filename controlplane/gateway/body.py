"""A request's body, bounded in size and in the time it may take to arrive."""

from __future__ import annotations

import asyncio

from controlplane.gateway import errors
from controlplane.gateway.envelope import MAX_BODY_BYTES, RefusedError
from controlplane.gateway.reply import Headers
from engine_agents.vllm_engine.frontend_port import Message, Receive

BODY_TIMEOUT_S = 30.0


class ClientGoneError(Exception):
    """The client left before its request was whole: nobody waits for an answer."""


async def read_body(headers: Headers, receive: Receive) -> bytes:
    """The whole body, bounded in size and time. Raises :class:`RefusedError`."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit() and int(value) > MAX_BODY_BYTES:
            raise RefusedError(errors.body_too_large(MAX_BODY_BYTES))
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _collect(receive)
    except TimeoutError:
        raise RefusedError(errors.BODY_TOO_SLOW) from None


async def _collect(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise RefusedError(errors.body_too_large(MAX_BODY_BYTES))
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body once, then what really comes (the client's leaving)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
