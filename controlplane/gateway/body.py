"""A request's body, bounded in size and in the time it may take to arrive."""

from __future__ import annotations

import asyncio

from controlplane.gateway import errors
from controlplane.gateway.envelope import MAX_BODY_BYTES, RefusedError
from engine_agents.vllm_engine.frontend_port import Message, Receive

BODY_TIMEOUT_S = 30.0


class ClientGoneError(Exception):
    """The client left before its request was whole: nobody waits for an answer."""


async def read_body(content_length: bytes, receive: Receive) -> bytes:
    """The whole body, bounded in size and time. Raises :class:`RefusedError`."""
    if content_length.isdigit() and int(content_length) > MAX_BODY_BYTES:
        raise RefusedError(errors.body_too_large(MAX_BODY_BYTES))
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    late = False

    def cut() -> None:
        nonlocal late
        late = True
        task.cancel()

    # ``asyncio.timeout`` does the same at five times the cost, and every request pays it.
    timer = loop.call_later(BODY_TIMEOUT_S, cut)
    try:
        return await _collect(receive)
    except asyncio.CancelledError:
        if late and not task.uncancel():
            raise RefusedError(errors.BODY_TOO_SLOW) from None
        raise
    finally:
        timer.cancel()


async def _collect(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise RefusedError(errors.body_too_large(MAX_BODY_BYTES))
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)


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
