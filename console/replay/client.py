"""One request over HTTP, streamed, with what a client can measure of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from console.replay.shots import Shot


@dataclass(slots=True)
class Felt:
    """What became of one request, by the client's clock. Times in milliseconds."""

    slo_class: str
    asked_tokens: int
    sent_s: float
    ttft_ms: float | None = None
    end_to_end_ms: float | None = None
    got_tokens: int = 0
    failure: str = ""
    _last_s: float = field(default=0.0, repr=False)

    @property
    def tpot_ms(self) -> float | None:
        """Mean time per output token after the first."""
        if self.ttft_ms is None or self.got_tokens < 2:
            return None
        return ((self._last_s - self.sent_s) * 1000 - self.ttft_ms) / (self.got_tokens - 1)

    def heard(self, now_s: float) -> None:
        if self.ttft_ms is None:
            self.ttft_ms = (now_s - self.sent_s) * 1000
        self._last_s = now_s

    def ended(self, now_s: float) -> None:
        self.end_to_end_ms = (now_s - self.sent_s) * 1000
        if not self.failure and self.got_tokens != self.asked_tokens:
            self.failure = f"{self.got_tokens} of {self.asked_tokens} tokens"


@dataclass(frozen=True, slots=True)
class Door:
    """How one class gets in."""

    key: str
    service_tier: str = ""


async def fire(
    client: httpx.AsyncClient,
    shot: Shot,
    *,
    model: str,
    door: Door,
    seed: int,
    clock: Callable[[], float],
) -> Felt:
    """Send it and read it to its end. Never raises: a failure is a result."""
    felt = Felt(slo_class=shot.slo_class, asked_tokens=shot.output_tokens, sent_s=clock())
    body = _body(shot, model, door, seed)
    headers = {"Authorization": f"Bearer {door.key}"}
    try:
        async with client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
            if response.status_code != 200:
                await response.aread()
                felt.failure = _refusal(response)
            else:
                await _listen(response, felt, clock)
    except httpx.HTTPError as error:
        felt.failure = type(error).__name__
    felt.ended(clock())
    return felt


def _body(shot: Shot, model: str, door: Door, seed: int) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "prompt": shot.prompt(seed),
        "max_tokens": shot.output_tokens,
        "min_tokens": shot.output_tokens,
        "ignore_eos": True,
        "temperature": 0.8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if door.service_tier:
        body["service_tier"] = door.service_tier
    return body


async def _listen(response: httpx.Response, felt: Felt, clock: Callable[[], float]) -> None:
    done = False
    async for data in _events(response):
        if data == b"[DONE]":
            done = True
        else:
            _take(json.loads(data), felt, clock)
    if not done and not felt.failure:
        felt.failure = "the stream broke off"


async def _events(response: httpx.Response) -> AsyncIterator[bytes]:
    """Server-sent events. Cut at line feeds alone: text may hold what else counts as the end of a line."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                yield line.removeprefix(b"data: ").rstrip(b"\r")


def _take(event: dict[str, Any], felt: Felt, clock: Callable[[], float]) -> None:
    if "error" in event:
        error = event["error"]
        felt.failure = str(error.get("type") or error.get("message") if isinstance(error, dict) else error)
    elif event.get("choices"):
        felt.heard(clock())
    if event.get("usage"):
        felt.got_tokens = int(event["usage"]["completion_tokens"])


def _refusal(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return f"{response.status_code} {error.get('code') or error.get('type')}"
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"{response.status_code}"
