"""The public door: which pool a request is for, and on to one of its gateways.

It checks no key and counts no quota: the gateways do. It reads of a body only what
model it asks for. A gateway that cannot be reached, or breaks off before a byte of its
answer, costs nothing: the next one of the pool is asked. Once an answer has begun, a
gateway's death ends it (what it had made dies with it), and the client sees a broken
connection, never a whole-looking answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from controlplane.gateway import errors
from controlplane.gateway.body import ClientGoneError, read_body
from controlplane.gateway.envelope import RefusedError
from controlplane.gateway.public.backends import Backends
from controlplane.gateway.public.upstream import (
    Backend,
    Connection,
    Headers,
    UpstreamError,
    answer_headers,
    request_head,
)
from controlplane.gateway.reply import CUT
from engine_agents.vllm_engine.frontend_port import Receive, Scope, Send

logger = logging.getLogger(__name__)

MAX_TRIES = 3


class _Asked(msgspec.Struct):
    model: Any = None


_asked = msgspec.json.Decoder(_Asked)


class PublicDoor:
    """An ASGI application."""

    def __init__(self, backends: Backends, clock: Callable[[], float]) -> None:
        self._backends, self._clock = backends, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            await self._http(scope, receive, send)
        except RefusedError as refused:
            await _answer(send, refused.error.status, refused.error.body, refused.error.headers)
        except ClientGoneError:
            return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/health":
            await self._health(send)
        elif path == "/v1/models" and method == "GET":
            await self._models(scope, send)
        elif path.startswith(("/v1/", "/tokenize", "/detokenize")):
            body = await read_body(_content_length(scope["headers"]), receive)
            await self._pass_on(scope, receive, send, self._model_of(body), body)
        else:
            raise RefusedError(errors.NOT_FOUND)

    async def _health(self, send: Send) -> None:
        now_s = self._clock()
        up = [each for each in self._backends.all() if each.down_until_s <= now_s]
        served = sorted({each.model for each in up})
        content = {"status": "ok" if up else "no gateway", "models": served, "gateways": len(up)}
        await _answer(send, 200 if up else 503, msgspec.json.encode(content), [])

    def _model_of(self, body: bytes) -> str:
        """Whose it is. What is no JSON object goes anywhere: a gateway says what is wrong with it."""
        known = self._backends.models
        anywhere = known[0] if known else ""
        try:
            model = _asked.decode(body).model
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return anywhere
        if isinstance(model, str) and model:
            if model not in known and known:
                raise RefusedError(errors.unknown_model(model, known))
            return model
        if len(known) > 1 and model is None:
            raise RefusedError(errors.no_model(known))
        return anywhere

    # ---------------------------------------------------------------- one request

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, model: str, body: bytes) -> None:
        tried: list[Backend] = []
        for _ in range(MAX_TRIES):
            backend = self._backends.choose(model, tried)
            if backend is None:
                break
            tried.append(backend)
            backend.in_flight += 1
            try:
                connection = await self._ask(backend, scope, receive, body)
            except UpstreamError as error:
                logger.warning("gateway %s:%d %s", backend.host, backend.port, error)
                self._backends.failed(backend)
                continue
            else:
                self._backends.worked(backend)
                await self._answer_from(connection, scope, receive, send)
                backend.give_back(connection, self._clock())
                return
            finally:
                backend.in_flight -= 1
        raise RefusedError(errors.NO_GATEWAY)

    async def _ask(self, backend: Backend, scope: Scope, receive: Receive, body: bytes) -> Connection:
        """The connection, with the answer's head. A kept connection that had just died is no failure."""
        head = _head(scope, body)
        while True:
            connection, used = await backend.connection(self._clock())
            try:
                await _unless_gone(receive, connection.ask(head, body))
            except UpstreamError:
                if not used:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return connection

    async def _answer_from(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        headers = answer_headers(connection.headers)
        await send({"type": "http.response.start", "status": connection.status, "headers": headers})
        try:
            await _unless_gone(receive, _pieces(connection, send))
        except UpstreamError:
            _cut(scope)
            raise ClientGoneError from None
        except BaseException:
            connection.close()
            raise

    # ---------------------------------------------------------------- all pools

    async def _models(self, scope: Scope, send: Send) -> None:
        """What all pools serve, in one list; what a gateway refuses (a bad key) is handed on."""
        found: list[Any] = []
        refused: tuple[int, bytes] | None = None
        for model in self._backends.models:
            answer = await self._models_of(model, scope)
            if answer is None:
                continue
            status, body = answer
            if status == 200:
                found += msgspec.json.decode(body)["data"]
            else:
                refused = answer
        if refused is not None and not found:
            await _answer(send, refused[0], refused[1], [])
        elif found or self._backends.all():
            await _answer(send, 200, msgspec.json.encode({"object": "list", "data": found}), [])
        else:
            raise RefusedError(errors.NO_GATEWAY)

    async def _models_of(self, model: str, scope: Scope) -> tuple[int, bytes] | None:
        backend = self._backends.choose(model)
        if backend is None:
            return None
        pieces: list[bytes] = []
        try:
            connection, _ = await backend.connection(self._clock())
            await connection.ask(_head(scope, b""), b"")
            while piece := await connection.piece():
                pieces.append(piece)
        except UpstreamError:
            self._backends.failed(backend)
            return None
        backend.give_back(connection, self._clock())
        return connection.status, b"".join(pieces)


def _content_length(headers: Headers) -> bytes:
    return next((value for name, value in headers if name == b"content-length"), b"")


def _head(scope: Scope, body: bytes) -> bytes:
    query = scope.get("query_string", b"")
    target = scope["raw_path"] + (b"?" + query if query else b"")
    peer = scope["client"][0] if scope.get("client") else "unknown"
    return request_head(scope["method"], target, scope["headers"], peer, len(body))


async def _pieces(connection: Connection, send: Send) -> None:
    while piece := await connection.piece():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _unless_gone(receive: Receive, work: Any) -> None:
    """Do ``work`` unless the client leaves before. Raises :class:`ClientGoneError`."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(receive())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return
        raise ClientGoneError
    finally:
        for task in (working, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, UpstreamError):
                await task


def _cut(scope: Scope) -> None:
    cut = scope.get("extensions", {}).get(CUT)
    if cut is not None:
        cut()


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    plain = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": plain + headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
