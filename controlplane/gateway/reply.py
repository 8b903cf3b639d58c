"""One answer on its way to a client: its headers, its errors, the care of long streams.

A stream's status is held back until its first chunk, so that what fails before has a
real status. A stream that is silent gets a comment now and then, lest a proxy between
takes it for dead; a client that does not read is cut off, because what it does not read
would pile up here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum, auto

import msgspec

from controlplane.gateway.errors import ApiError, retry_headers, unusable_body
from controlplane.gateway.live_requests import Call
from controlplane.gateway.tier_echo import FIELD, echo
from engine_agents.vllm_engine.frontend_port import Message, Scope, Send

logger = logging.getLogger(__name__)

KEEP_ALIVE_S = 15.0
"""A stream that was silent for so long gets a comment."""
STALL_LIMIT_S = 30.0
"""A client that takes nothing for so long while there is something to take is cut off."""
CARE_INTERVAL_S = 1.0
FAIRNESS_REPLIES = 100
"""After so many in one go the other tasks get a turn."""
KEEP_ALIVE = b": keep-alive\n\n"
ERROR_EVENT = b'data: {"error"'
CUT = "llumdeck.cut"
"""Key of the ASGI extension that drops a connection at once (see ``http_protocol``)."""

Headers = list[tuple[bytes, bytes]]


class Care(Enum):
    """What a stream needs."""

    COMMENT = auto()
    CUT = auto()


class Reply:
    """One answer; ``headers`` may be extended until it starts."""

    __slots__ = (
        "_chunks", "_cut", "_held", "_http_id", "_over", "_seen", "_seen_s", "_send", "_sending", "_started",
        "call", "headers", "status", "streams", "tier",
    )  # fmt: skip

    def __init__(self, send: Send, http_id: str, scope: Scope, headers: Headers | None = None) -> None:
        self._send, self._http_id = send, http_id
        self._cut: Callable[[], None] | None = scope.get("extensions", {}).get(CUT)
        self._held: Message | None = None
        self._started = self._over = self._sending = False
        self._chunks = self._seen = 0
        self._seen_s = 0.0
        self.headers: Headers = headers or []
        self.status = 0
        self.streams = False
        self.call: Call | None = None
        """What it answers, once that is known."""
        self.tier = b""
        """OpenAI's service tier that was used, written into the answer; empty: as vLLM left it."""

    async def json(self, status: int, content: object, headers: Headers | None = None) -> None:
        await self.whole(status, msgspec.json.encode(content), headers or [])

    async def whole(
        self, status: int, body: bytes, headers: Headers, content_type: bytes = b"application/json"
    ) -> None:
        plain = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        # A limit's own headers say more than those of the ticket.
        names = {name for name, _ in headers}
        self.headers = [pair for pair in self.headers if pair[0] not in names]
        await self._start(status, plain + headers)
        self._over = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def error(self, error: ApiError) -> None:
        """Answer with an error, or end the answer where one has begun."""
        if not self._started:
            await self.whole(error.status, error.body, error.headers)
        elif not self._over:
            self._over = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def pass_on(self, message: Message) -> None:
        """What vLLM's app sends."""
        if self._over:
            return
        if self._held is not None or message["type"] != "http.response.body":
            await self._begin(message)
            return
        self._chunks += 1
        self._over = not message.get("more_body", False)
        if self.tier and self.streams and FIELD in (body := message.get("body", b"")):
            message["body"] = echo(body, self.tier)
        self._sending = True
        await self._send(message)
        self._sending = False

    async def _begin(self, message: Message) -> None:
        """The start, or the first piece of a stream whose start was held back."""
        if message["type"] == "http.response.start":
            self.streams = _is_stream(message)
            if self.streams or self.tier or message["status"] == 500:
                self._held = message
            else:
                await self._start(message["status"], list(message["headers"]))
            return
        held, self._held = self._held, None
        is_error = held is not None and message.get("body", b"").startswith(ERROR_EVENT)
        if held is not None and (is_error or held["status"] == 429) and self._refusal is not None:
            await self.error(self._refusal)
            return
        if is_error:
            await self._error_event(message["body"])
            return
        if held is not None and held["status"] == 500 and self.is_bodys_fault:
            await self.error(_not_understood(message.get("body", b"")))
            return
        if held is not None:
            if self.tier and not self.streams and not message.get("more_body", False):
                _put_tier(held, message, self.tier)
            await self._start(held["status"], list(held["headers"]))
        await self.pass_on(message)

    async def _error_event(self, event: bytes) -> None:
        """A stream that failed before its first token."""
        content = event.partition(b"\n\n")[0].removeprefix(b"data: ").strip()
        code = msgspec.json.decode(content)["error"].get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        if status == 500 and self.is_bodys_fault:
            await self.error(_not_understood(content))
            return
        await self.whole(status, content, retry_headers(status))

    @property
    def _refusal(self) -> ApiError | None:
        return self.call.refusal if self.call is not None else None

    @property
    def is_bodys_fault(self) -> bool:
        """vLLM failed before it made anything of the body: it could not read it, whatever it calls that.

        Its own checks miss some shapes, which then end as an attribute that a list does not have.
        """
        return self.call is not None and not self.call.reached_engine

    async def _start(self, status: int, headers: Headers) -> None:
        self._started, self.status = True, status
        headers.append((b"x-request-id", self._http_id.encode()))
        headers += self.headers
        call = self.call
        if call is not None and call.served_by:
            headers.append((b"x-served-by", call.served_by.encode()))
        if status in (429, 503) and not any(name == b"retry-after" for name, _ in headers):
            headers += retry_headers(status)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    # ---------------------------------------------------------------- long streams

    def needs(self, now_s: float, keep_alive_s: float, stall_limit_s: float) -> Care | None:
        """What is to be done about this answer; to be asked now and then, of thousands at once."""
        if self._chunks != self._seen or not self._seen_s:
            self._seen, self._seen_s = self._chunks, now_s
            return None
        idle_s = now_s - self._seen_s
        if self._sending:
            return Care.CUT if idle_s > stall_limit_s else None
        return Care.COMMENT if idle_s > keep_alive_s and not self._over else None

    async def comment(self) -> None:
        """Show whoever listens that the stream lives."""
        held, self._held = self._held, None
        if held is not None:
            await self._start(held["status"], list(held["headers"]))
        elif not self._started:
            return
        self._chunks += 1
        self._sending = True
        await self._send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
        self._sending = False

    def drop(self) -> bool:
        """Cut off a client that does not read; ``False`` where the server cannot."""
        if self._cut is None:
            return False
        logger.warning("request %s is cut off: its client does not read", self._http_id)
        self._cut()
        return True


class StreamCare:
    """Looks after all open answers; one task for all of them, nothing per token."""

    def __init__(
        self,
        clock: Callable[[], float],
        keep_alive_s: float = KEEP_ALIVE_S,
        stall_limit_s: float = STALL_LIMIT_S,
    ) -> None:
        self._clock = clock
        self.keep_alive_s, self.stall_limit_s = keep_alive_s, stall_limit_s
        self._open: set[Reply] = set()
        self.cut = 0
        """Clients that were cut off."""

    def add(self, reply: Reply) -> None:
        self._open.add(reply)

    def discard(self, reply: Reply) -> None:
        self._open.discard(reply)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(min(CARE_INTERVAL_S, self.keep_alive_s / 2, self.stall_limit_s / 2))
            now_s = self._clock()
            for number, reply in enumerate([reply for reply in self._open if reply.streams]):
                care = reply.needs(now_s, self.keep_alive_s, self.stall_limit_s)
                if care is not None:
                    await self._look_after(reply, care)
                if number % FAIRNESS_REPLIES == 0:
                    await asyncio.sleep(0)

    async def _look_after(self, reply: Reply, care: Care) -> None:
        """No client's connection may hold up the others, or end the care of them."""
        try:
            if care is Care.CUT:
                if reply.drop():
                    self.cut += 1
                    self.discard(reply)
                return
            async with asyncio.timeout(CARE_INTERVAL_S):
                await reply.comment()
        except TimeoutError:
            return
        except Exception:
            logger.exception("a stream could not be looked after")
            self.discard(reply)


def _put_tier(start: Message, body: Message, tier: bytes) -> None:
    """In an answer of one piece, whose length was said before."""
    text = body.get("body", b"")
    if FIELD not in text:
        return
    body["body"] = echo(text, tier)
    length = b"%d" % len(body["body"])
    start["headers"] = [
        (name, length if name == b"content-length" else value) for name, value in start["headers"]
    ]


def _not_understood(content: bytes) -> ApiError:
    try:
        problem = str(msgspec.json.decode(content)["error"]["message"])
    except (msgspec.MsgspecError, KeyError, TypeError):
        problem = "it cannot be read"
    return unusable_body(problem)


def _is_stream(message: Message) -> bool:
    return any(
        name == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message["headers"]
    )
