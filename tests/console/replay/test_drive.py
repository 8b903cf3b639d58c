"""The client's side against a small HTTP server that answers as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from console.replay.client import Door, Felt
from console.replay.drive import Pace, Target, ask_model, drive
from console.replay.shots import ReplayError, Shot

MODELS = {"data": [{"id": "m", "max_model_len": 512}, {"id": "n", "max_model_len": 64}]}
Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


def stream(tokens: int, *, done: bool = True, text: str = "x") -> bytes:
    events = [{"choices": [{"text": text}]} for _ in range(tokens)]
    lines = [json.dumps(event, ensure_ascii=False) for event in events]
    lines.append(json.dumps({"choices": [], "usage": {"completion_tokens": tokens}}))
    lines += ["[DONE]"] if done else []
    return "".join(f"data: {line}\n\n" for line in lines).encode()


@asynccontextmanager
async def gateway(answer: Answer) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.splitlines() if ": " in line)
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        if "/v1/models" in head:
            status, payload = 200, json.dumps(MODELS).encode()
        else:
            status, payload = answer({**json.loads(raw), "authorization": headers["authorization"]})
        answer_head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
        writer.write(answer_head.encode() + payload)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


def shots(count: int, output_tokens: int = 3) -> list[Shot]:
    return [Shot(number, 0.0, 4, output_tokens, "standard") for number in range(count)]


async def fire_all(answer: Answer, wanted: list[Shot], door: Door | None = None) -> list[Felt]:
    async with gateway(answer) as url:
        target = Target(url, "m", {"standard": door or Door("key")})
        pace = Pace(seed=0, max_open=len(wanted))
        return await drive(wanted, target, pace, on_sent=lambda: None, on_done=lambda felt: None)


async def test_a_full_answer_is_measured_and_is_no_failure() -> None:
    (felt,) = await fire_all(lambda body: (200, stream(3)), shots(1))
    assert felt.failure == "" and felt.got_tokens == 3
    assert felt.ttft_ms is not None and felt.end_to_end_ms is not None
    assert 0 < felt.ttft_ms <= felt.end_to_end_ms and felt.tpot_ms is not None


async def test_the_body_forces_the_length_and_names_the_tier() -> None:
    seen: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> tuple[int, bytes]:
        seen.append(body)
        return 200, stream(3)

    await fire_all(answer, shots(1), Door("secret", "flex"))
    (body,) = seen
    assert body["max_tokens"] == body["min_tokens"] == 3 and body["ignore_eos"] is True
    assert len(body["prompt"]) == 4 and body["service_tier"] == "flex"
    assert body["authorization"] == "bearer secret"


@pytest.mark.parametrize(
    ("status", "payload", "failure"),
    [
        (200, stream(2), "2 of 3 tokens"),
        (200, stream(3, done=False), "the stream broke off"),
        (200, b'data: {"error": {"type": "engine_gone"}}\n\n', "engine_gone"),
        (429, b'{"error": {"code": "queue_full"}}', "429 queue_full"),
        (502, b"<html>", "502"),
    ],
)
async def test_what_is_not_a_full_answer_is_a_failure_with_its_kind(
    status: int, payload: bytes, failure: str
) -> None:
    (felt,) = await fire_all(lambda body: (status, payload), shots(1))
    assert felt.failure == failure


async def test_text_with_other_line_ends_is_one_event() -> None:
    (felt,) = await fire_all(lambda body: (200, stream(3, text="a\u2028b\x85c")), shots(1))
    assert felt.failure == ""


async def test_no_more_is_sent_once_told_to_stop() -> None:
    stop, late = asyncio.Event(), [Shot(0, 0.0, 1, 3, "standard"), Shot(1, 3600.0, 1, 3, "standard")]
    async with gateway(lambda body: (200, stream(3))) as url:
        target = Target(url, "m", {"standard": Door("key")})
        felt = await drive(
            late,
            target,
            Pace(seed=0, max_open=2),
            on_sent=lambda: None,
            on_done=lambda felt: stop.set(),
            stop=stop,
        )
    assert len(felt) == 1


async def test_the_model_is_the_first_or_the_named_one() -> None:
    async with gateway(lambda body: (200, b"")) as url:
        assert (await ask_model(url, "key")).name == "m"
        assert (await ask_model(url, "key", "n")).context_tokens == 64
        with pytest.raises(ReplayError, match=r"'other' is not served .* there is m, n"):
            await ask_model(url, "key", "other")


async def test_no_gateway_is_said() -> None:
    with pytest.raises(ReplayError, match=r"no gateway at http://127\.0\.0\.1:1 "):
        await ask_model("http://127.0.0.1:1", "key")
