"""How a client is told that a limit was reached: OpenAI's shape, the limit's name, when to come back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.gateway.errors import ApiError
from controlplane.gateway.limits.book import Demand, LimitBook, Shortage

Headers = list[tuple[bytes, bytes]]
LIMITED = "rate_limit_exceeded"
WORDS = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "concurrent_requests": "concurrent requests",
    "queued_requests": "waiting requests",
    "queue_seconds": "seconds of waiting",
}


@dataclass(frozen=True, slots=True)
class LimitError(ApiError):
    """A 429 or 503 that says when to try again."""

    retry_after_s: float = 1.0
    more: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def headers(self) -> Headers:
        return [
            *self.more,
            (b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()),
            (b"retry-after-ms", str(max(1, math.ceil(self.retry_after_s * 1000))).encode()),
            (b"x-ratelimit-limit-name", (self.param or "").encode()),
        ]


def limit_reached(
    title: str, limit: float, wait_s: float, *, status: int = 429, more: Headers | None = None
) -> LimitError:
    """``title`` is ``tenant.requests_per_minute``; it is the error's ``param`` and a header of its own."""
    scope, _, name = title.rpartition(".")
    message = (
        f"Limit reached: {limit:g} {WORDS.get(name, name)} for this {scope}. "
        f"Try again in {max(wait_s, 0.001):.3g} s."
    )
    code = LIMITED if status == 429 else "overloaded"
    return LimitError(status, code, message, title, wait_s, tuple(more or ()))


def shortage(found: Shortage, more: Headers | None = None) -> LimitError:
    return limit_reached(found.demand.title, found.demand.limit, found.wait_s, more=more)


def rate_headers(demands: Sequence[Demand], book: LimitBook) -> Headers:
    """``x-ratelimit-*`` as OpenAI has them, of the request's tightest limit of each sort."""
    headers: Headers = []
    for noun, prefix in (("requests", "requests:"), ("tokens", "tokens:")):
        mine = [demand for demand in demands if demand.name.startswith(prefix)]
        if not mine:
            continue
        left, demand = min(((book.remaining(each), each) for each in mine), key=lambda pair: pair[0])
        full_s = (demand.limit - left) * 60.0 / demand.limit
        for what, value in (
            ("limit", str(demand.limit)),
            ("remaining", str(int(left))),
            ("reset", span(full_s)),
        ):
            headers.append((f"x-ratelimit-{what}-{noun}".encode(), value.encode()))
    return headers


def span(seconds: float) -> str:
    """As OpenAI writes it: ``850ms``, ``7.5s``, ``6m0s``."""
    if seconds < 1.0:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60.0)
    return f"{int(minutes)}m{rest:.0f}s" if minutes else f"{rest:.3g}s"
