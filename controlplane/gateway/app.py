"""The door: a small ASGI shim around vLLM's app.

It lets through the routes below and nothing else, checks the key, settles the SLO
class, bounds the body, takes from the client's headers what only the operator may
say, and sees to it that every error has OpenAI's shape. Neither prompts nor
outputs are logged.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable
from datetime import datetime

import msgspec

from controlplane.gateway import errors
from controlplane.gateway.admission import (
    MAX_BODY_BYTES,
    Caller,
    KeyCache,
    RefusedError,
    caller_for,
    read_envelope,
)
from controlplane.gateway.errors import ApiError, retry_headers
from controlplane.gateway.live_requests import Call, current_call
from engine_agents.vllm_engine.frontend_port import AsgiApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

ROUTES: dict[str, str] = {
    "/v1/models": "GET",
    "/v1/completions": "POST",
    "/v1/chat/completions": "POST",
    "/v1/responses": "POST",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
}
"""Of vLLM's app; its other routes are for whoever runs it, not for tenants."""
BODY_TIMEOUT_S = 30.0
REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
WITHHELD_HEADERS = frozenset(
    {
        b"authorization",
        b"cookie",
        b"x-vllm-priority",
        b"x-data-parallel-rank",
        b"x-request-id",
        b"endpoint-load-metrics-format",
    }
)
"""Not passed on: secrets, and what only the operator may say."""
ERROR_EVENT = b'data: {"error"'

Headers = list[tuple[bytes, bytes]]


class ClientGoneError(Exception):
    """The client left before its request was whole: nobody waits for an answer."""


class Door:
    """The ASGI application that the gateway process serves."""

    def __init__(
        self,
        keys: KeyCache,
        health: Callable[[], dict[str, object]],
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
    ) -> None:
        self.inner: AsgiApp | None = None
        """vLLM's app; requests get a 503 until it is there."""
        self._keys, self._health = keys, health
        self._clock, self._wall = clock, wall_clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        http_id = _request_id(scope["headers"])
        reply = Reply(send, http_id)
        try:
            if scope["path"] == "/health":
                await reply.json(*self._health_answer())
            else:
                await self._serve(scope, receive, reply, http_id)
        except RefusedError as refused:
            await reply.error(refused.error)
        except ClientGoneError:
            return
        except Exception:
            logger.exception("request %s failed inside the gateway", http_id)
            await reply.error(errors.INTERNAL)

    def _health_answer(self) -> tuple[int, dict[str, object]]:
        health = self._health()
        return (200 if health.get("status") == "ok" else 503), health

    async def _serve(self, scope: Scope, receive: Receive, reply: Reply, http_id: str) -> None:
        arrived_s, arrived_at = self._clock(), self._wall()
        _check_route(scope["path"], scope["method"])
        identity = await self._keys.authenticate(scope["headers"])
        if self.inner is None:
            raise RefusedError(errors.STARTING)
        tier = ""
        if scope["method"] == "POST":
            body = await _read_body(scope["headers"], receive)
            tier = read_envelope(body).service_tier
            receive = _replay(body, receive)
        caller = caller_for(identity, tier)
        token = current_call.set(Call(http_id, caller, arrived_s, arrived_at))
        reply.slo_class = caller.slo_class
        try:
            await self.inner(_inner_scope(scope, caller, http_id), receive, reply.pass_on)
        finally:
            current_call.reset(token)


class Reply:
    """One answer. A stream's status is held back until its first chunk: an error then is a real status."""

    def __init__(self, send: Send, http_id: str) -> None:
        self._send, self._http_id = send, http_id
        self._held: Message | None = None
        self._started = False
        self._over = False
        self.slo_class = ""

    async def json(self, status: int, content: object, headers: Headers | None = None) -> None:
        await self._whole(status, msgspec.json.encode(content), headers or [])

    async def error(self, error: ApiError) -> None:
        """Answer with an error, or end the answer where one has begun."""
        if not self._started:
            await self._whole(error.status, error.body, error.headers)
        elif not self._over:
            self._over = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def pass_on(self, message: Message) -> None:
        """What vLLM's app sends."""
        if self._over:
            return
        if message["type"] == "http.response.start":
            if _is_stream(message):
                self._held = message
            else:
                await self._start(message["status"], list(message["headers"]))
            return
        if message["type"] == "http.response.body":
            held, self._held = self._held, None
            if held is not None:
                if message.get("body", b"").startswith(ERROR_EVENT):
                    await self._error_event(message["body"])
                    return
                await self._start(held["status"], list(held["headers"]))
            self._over = not message.get("more_body", False)
        await self._send(message)

    async def _error_event(self, event: bytes) -> None:
        """A stream that failed before its first token."""
        content = event.removeprefix(b"data: ").strip()
        code = msgspec.json.decode(content)["error"].get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        await self._whole(status, content, retry_headers(status))

    async def _whole(self, status: int, body: bytes, headers: Headers) -> None:
        plain = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._start(status, plain + headers)
        self._over = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, status: int, headers: Headers) -> None:
        self._started = True
        names = {name for name, _ in headers}
        headers.append((b"x-request-id", self._http_id.encode()))
        if self.slo_class:
            headers.append((b"x-slo-class", self.slo_class.encode()))
        headers.extend(pair for pair in retry_headers(status) if pair[0] not in names)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def _check_route(path: str, method: str) -> None:
    allowed = ROUTES.get(path)
    if allowed is None:
        raise RefusedError(errors.NOT_FOUND)
    if method != allowed:
        raise RefusedError(errors.method_not_allowed(allowed))


def _request_id(headers: Headers) -> str:
    """The client's ``X-Request-ID`` where it is harmless, else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return value.decode()
    return secrets.token_hex(16)


def _inner_scope(scope: Scope, caller: Caller, http_id: str) -> Scope:
    headers = [pair for pair in scope["headers"] if pair[0] not in WITHHELD_HEADERS]
    headers.append((b"x-vllm-priority", str(caller.rank).encode()))
    headers.append((b"x-request-id", http_id.encode()))
    return {**scope, "headers": headers, "state": {}}


def _is_stream(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message["headers"]
    )


async def _read_body(headers: Headers, receive: Receive) -> bytes:
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


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body once, then what really comes (the client's leaving)."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to do: the process builds everything before it listens."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
