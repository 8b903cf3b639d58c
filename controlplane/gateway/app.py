"""The door: a small ASGI shim around vLLM's app.

It lets through the routes below and nothing else, checks the key, settles the SLO
class, bounds the body, takes from the client's headers what only the operator may
say, and sees to it that every error has OpenAI's shape. Neither prompts nor
outputs are logged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from controlplane.gateway import errors, metrics, operator
from controlplane.gateway.admission import Admission, Caller
from controlplane.gateway.body import ClientGoneError, read_body, replay
from controlplane.gateway.envelope import Envelope, RefusedError, read_envelope
from controlplane.gateway.heading import Heading
from controlplane.gateway.live_requests import Call, current_call
from controlplane.gateway.reply import Headers, Reply, StreamCare
from engine_agents.vllm_engine.frontend_port import AsgiApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

ROUTES: dict[str, str] = {
    "/v1/models": "GET",
    "/v1/completions": "POST",
    "/v1/chat/completions": "POST",
    "/v1/responses": "POST",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/tokenize": "POST",
    "/detokenize": "POST",
}
"""Of vLLM's app; its other routes are for whoever runs it, not for tenants."""
METRICS_PATH = "/metrics"

SHAPE_ERRORS = (AttributeError, TypeError, LookupError, ValueError, OverflowError, RecursionError)
"""What reading a body of an unforeseen shape ends in."""


class Door:
    """The ASGI application that the gateway process serves."""

    def __init__(
        self,
        admission: Admission,
        health: Callable[[], dict[str, object]],
        clock: Callable[[], float],
        wall_clock: Callable[[], datetime],
        care: StreamCare | None = None,
    ) -> None:
        self.inner: AsgiApp | None = None
        """vLLM's app; requests get a 503 until it is there."""
        self._admission, self._health = admission, health
        self._clock, self._wall = clock, wall_clock
        self.care = care or StreamCare(clock)
        self.input_problem: Callable[[Sequence[Any]], Awaitable[str]] | None = None
        """``FrontHalf.input_problem``, once that is there."""
        self.metrics: Callable[[Headers], bytes | None] | None = None
        """Prometheus' text; ``None`` as an answer: the caller may not see it."""
        self.operator_answer: Callable[[Headers], bytes | None] | None = None
        """For the console while Redis is away; ``None`` as an answer: the caller is not the console."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        heading = Heading(scope["headers"])
        http_id = heading.http_id
        reply = Reply(send, http_id, scope, [(b"traceparent", heading.trace_parent)])
        try:
            if scope["path"] == "/health":
                await reply.json(*self._health_answer())
            elif scope["path"] in (operator.PATH, METRICS_PATH):
                await self._operator(scope, reply)
            else:
                await self._serve(scope, receive, reply, heading)
        except RefusedError as refused:
            await reply.error(refused.error)
        except ClientGoneError:
            return
        except Exception as error:
            if reply.is_bodys_fault and isinstance(error, SHAPE_ERRORS):
                logger.warning("request %s could not be read: %r", http_id, str(error)[:300])
                await reply.error(errors.unusable_body(str(error)))
                return
            logger.exception("request %s failed inside the gateway", http_id)
            await reply.error(errors.INTERNAL)

    async def _operator(self, scope: Scope, reply: Reply) -> None:
        """Looks like any unknown address to whoever is not the console."""
        is_metrics = scope["path"] == METRICS_PATH
        ask = self.metrics if is_metrics else self.operator_answer
        answer = ask(scope["headers"]) if ask is not None else None
        if answer is None:
            raise RefusedError(errors.NOT_FOUND)
        kind = metrics.CONTENT_TYPE if is_metrics else "application/json"
        await reply.whole(200, answer, [], kind.encode())

    async def _check_input(self, envelope: Envelope) -> None:
        """Many items are looked at a few at a time: vLLM's own check tries every form on each of them."""
        if self.input_problem is not None:
            problem = await self.input_problem(envelope.input_items)
            if problem:
                raise RefusedError(errors.out_of_range("input", problem))

    def _health_answer(self) -> tuple[int, dict[str, object]]:
        health = self._health()
        return (200 if health.get("status") == "ok" else 503), health

    async def _serve(self, scope: Scope, receive: Receive, reply: Reply, heading: Heading) -> None:
        arrived_s, arrived_at = self._clock(), self._wall()
        _check_route(scope["path"], scope["method"])
        identity = await self._admission.identify(scope, heading)
        if self.inner is None:
            raise RefusedError(errors.STARTING)
        envelope: Envelope | None = None
        client = receive
        if scope["method"] == "POST":
            body = await read_body(heading.content_length, receive)
            envelope = read_envelope(body)
            if envelope.input_items:
                await self._check_input(envelope)
            receive = replay(body, receive)
        ticket = await self._admission.admit(identity, envelope, partial(_gone, client))
        reply.headers.extend(ticket.headers)
        reply.tier = ticket.caller.tier.encode()
        reply.call = Call(heading.http_id, ticket.caller, arrived_s, arrived_at, ticket)
        token = current_call.set(reply.call)
        self.care.add(reply)
        try:
            await self.inner(_inner_scope(scope, heading, ticket.caller), receive, reply.pass_on)
        finally:
            self.care.discard(reply)
            current_call.reset(token)
            ticket.close()


def _check_route(path: str, method: str) -> None:
    allowed = ROUTES.get(path)
    if allowed is None:
        raise RefusedError(errors.NOT_FOUND)
    if method != allowed:
        raise RefusedError(errors.method_not_allowed(allowed))


async def _gone(receive: Receive) -> None:
    """Returns when the client has left; for when its body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _inner_scope(scope: Scope, heading: Heading, caller: Caller) -> Scope:
    headers = heading.passed
    headers.append((b"x-vllm-priority", b"%d" % caller.rank))
    headers.append((b"x-request-id", heading.http_id.encode()))
    return {**scope, "headers": headers, "state": {}}


async def _lifespan(receive: Receive, send: Send) -> None:
    """Nothing to do: the process builds everything before it listens."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
