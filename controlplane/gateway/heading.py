"""A request's headers, read in one pass: what concerns the door, and what goes on to vLLM's app. Pure.

They are read for every request, so nothing here looks at them twice.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

Headers = list[tuple[bytes, bytes]]

REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,100}")
TRACE_ID = re.compile(rb"[0-9a-f]{32}")
TRACE_PARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
WITHHELD_HEADERS = frozenset(
    {
        b"authorization",
        b"cookie",
        b"x-vllm-priority",
        b"x-data-parallel-rank",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"endpoint-load-metrics-format",
    }
)
"""Not passed on: secrets, and what only the operator may say."""

OURS = WITHHELD_HEADERS | {b"content-length", b"x-api-key", b"x-forwarded-for"}
"""What the door looks at, or takes away."""

_bits = random.Random(random.SystemRandom().getrandbits(256)).getrandbits  # noqa: S311 - unique, not secret
_SPAN = 2**64 - 1


class Heading:
    """What the door needs to know of a request before its body."""

    __slots__ = (
        "api_key", "authorization", "content_length", "forwarded", "http_id", "passed", "trace_parent",
    )  # fmt: skip

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.content_length = self.authorization = self.api_key = b""
        """The first of each; of the length, the last."""
        self.forwarded: Sequence[bytes] = ()
        """Every ``X-Forwarded-For``, in order."""
        self.passed: Headers = []
        """Headers that vLLM's app may see."""
        given_id = given_trace = b""
        for pair in headers:
            name = pair[0]
            if name not in OURS:
                self.passed.append(pair)
            elif name == b"authorization":
                self.authorization = self.authorization or pair[1]
            elif name == b"content-length":
                self.content_length = pair[1]
                self.passed.append(pair)
            elif name == b"x-request-id":
                given_id = given_id or pair[1]
            elif name == b"traceparent":
                given_trace = given_trace or pair[1]
            elif name not in WITHHELD_HEADERS:
                self._note(pair)
        self.http_id, self.trace_parent = _ids_of(given_id, given_trace)
        """The client's ``X-Request-ID`` where it is harmless, else a new one; and the answer's trace context
        (W3C): the client's trace where it sent one, else one of the request's id."""

    def _note(self, pair: tuple[bytes, bytes]) -> None:
        name, value = pair
        self.passed.append(pair)
        if name == b"x-api-key":
            self.api_key = self.api_key or value
        else:
            self.forwarded = [*self.forwarded, value]


def _ids_of(given_id: bytes, given_trace: bytes) -> tuple[str, bytes]:
    bits = _bits(192)
    span = b"%016x" % (bits & _SPAN or 1)
    if given_id and REQUEST_ID.fullmatch(given_id):
        own = given_id if TRACE_ID.fullmatch(given_id) else b"%032x" % (bits >> 64)
        http_id = given_id.decode()
    else:
        own = b"%032x" % (bits >> 64)
        http_id = own.decode()
    parent = TRACE_PARENT.fullmatch(given_trace) if given_trace else None
    if parent is not None:
        return http_id, b"00-%s-%s-%s" % (parent[1], span, parent[2])
    return http_id, b"00-%s-%s-01" % (own, span)
