"""The door, with a scripted app behind it in the place of vLLM's."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from controlplane.gateway import app as app_module
from controlplane.gateway import body as body_module
from controlplane.gateway.abuse import AbuseLog
from controlplane.gateway.admission import Admission
from controlplane.gateway.app import Door
from controlplane.gateway.heading import REQUEST_ID
from controlplane.gateway.keys import KeyCache
from controlplane.gateway.limits.book import LimitBook
from controlplane.gateway.limits.refusals import LimitError
from controlplane.gateway.limits.store import LocalStore
from controlplane.gateway.live_requests import current_call
from tests.gateway.identities import KEYS

GOOD = {"Authorization": "Bearer good-key"}


class Inner:
    """Answers as told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        self.chunks: list[bytes] = [b"{}"]
        self.fails = False
        self.reaches_engine = False
        self.served_by = ""
        self.refusal: LimitError | None = None
        self.seen: dict[str, str] = {}
        self.body = b""
        self.call: Any = None

    async def __call__(self, scope, receive, send) -> None:
        self.seen = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.call = current_call.get()
        self.call.reached_engine = self.reaches_engine
        self.call.served_by = self.served_by
        self.call.refusal = self.refusal
        if scope["method"] == "POST":
            self.body = (await receive())["body"]
        if self.fails:
            raise RuntimeError("a bug")
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def stream(self, *chunks: bytes) -> None:
        self.headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        self.chunks = list(chunks)


@pytest.fixture
def inner() -> Inner:
    return Inner()


@pytest.fixture
async def client(inner: Inner) -> AsyncIterator[httpx.AsyncClient]:
    keys = KeyCache(lambda raw_key, now: KEYS.get(raw_key), time.monotonic, lambda: datetime.now(UTC))
    book = LimitBook(LocalStore(time.monotonic), time.monotonic)
    admission = Admission(keys, book, AbuseLog(time.monotonic), time.monotonic)
    door = Door(admission, lambda: {"status": "ok"}, time.monotonic, lambda: datetime.now(UTC))
    door.inner = inner
    transport = httpx.ASGITransport(door)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=GOOD) as made:
        made.door = door  # type: ignore[attr-defined]
        yield made
    keys.close()


def assert_openai_error(reply: httpx.Response, status: int, code: str) -> None:
    assert reply.status_code == status
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code and error["message"]
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize(
    "path",
    ["/", "/metrics", "/ping", "/load", "/version", "/sleep", "/invocations", "/openapi.json", "/docs",
     "/scale_elastic_ep", "/v1/load_lora_adapter", "/v1/completions/render", "/inference/v1/generate",
     "/v1/responses/resp_1", "/v1/models/", "/v1//models", "/tokenizer_info", "/is_sleeping"],
)  # fmt: skip
async def test_nothing_but_the_listed_routes_is_there(client, inner: Inner, path: str) -> None:
    for method in ("GET", "POST"):
        assert_openai_error(await client.request(method, path), 404, "unknown_url")
    assert inner.seen == {}


async def test_a_wrong_method_is_said(client) -> None:
    assert_openai_error(await client.get("/v1/completions"), 405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/completions"])
async def test_no_route_without_a_key(client, inner: Inner, path: str) -> None:
    method = app_module.ROUTES[path]
    bad = {"Authorization": "Bearer wrong"}
    assert_openai_error(await client.request(method, path, headers=bad), 401, "invalid_api_key")
    del client.headers["Authorization"]
    assert_openai_error(await client.request(method, path), 401, "missing_api_key")
    assert_openai_error(await client.request(method, path + "?api_key=good-key"), 401, "missing_api_key")
    assert inner.seen == {}


async def test_health_needs_no_key(client) -> None:
    del client.headers["Authorization"]
    assert (await client.get("/health")).status_code == 200
    client.door._health = lambda: {"status": "no engine"}
    assert (await client.get("/health")).status_code == 503


async def test_before_the_model_is_read_the_answer_is_503(client) -> None:
    client.door.inner = None
    reply = await client.get("/v1/models")
    assert_openai_error(reply, 503, "starting")
    assert reply.headers["retry-after"] == "1"


async def test_what_only_the_operator_may_say_is_taken_from_the_client(client, inner: Inner) -> None:
    sent = {
        "X-Vllm-Priority": "-99",
        "X-data-parallel-rank": "3",
        "Cookie": "session=1",
        "X-Request-ID": "mine-1",
        "X-Custom": "stays",
    }
    reply = await client.post("/v1/completions", content=b'{"prompt": "x"}', headers=sent)
    assert reply.status_code == 200
    assert inner.seen["x-vllm-priority"] == "1"
    assert inner.seen["x-request-id"] == reply.headers["x-request-id"] == "mine-1"
    assert inner.seen["x-custom"] == "stays"
    assert not {"authorization", "cookie", "x-data-parallel-rank"} & set(inner.seen)


@pytest.mark.parametrize("hostile", ["a b", "x" * 200, "a#1", "a/../b", "né"])
async def test_a_request_id_that_could_do_harm_is_replaced(client, inner: Inner, hostile: str) -> None:
    headers = [(b"X-Request-ID", hostile.encode())]
    reply = await client.post("/v1/completions", content=b"{}", headers=headers)
    assert reply.headers["x-request-id"] != hostile
    assert REQUEST_ID.fullmatch(reply.headers["x-request-id"].encode())


async def test_the_class_is_settled_and_said(client, inner: Inner) -> None:
    reply = await client.post("/v1/completions", content=b'{"service_tier": "flex"}')
    assert reply.headers["x-slo-class"] == "batch"
    assert (inner.call.caller.asked_class, inner.seen["x-vllm-priority"]) == ("batch", "2")
    reply = await client.post(
        "/v1/completions",
        content=b'{"service_tier": "priority"}',
        headers={"Authorization": "Bearer batch-key"},
    )
    assert reply.headers["x-slo-class"] == "batch"
    assert (inner.call.caller.asked_class, inner.call.caller.slo_class) == ("interactive", "batch")


async def test_who_began_the_answer_is_said_once_somebody_has(client, inner: Inner) -> None:
    reply = await client.post("/v1/completions", content=b"{}")
    assert "x-served-by" not in reply.headers
    inner.served_by = "main-2"
    inner.stream(b"data: 1\n\n", b"data: [DONE]\n\n")
    reply = await client.post("/v1/completions", content=b"{}")
    assert reply.headers.get_list("x-served-by") == ["main-2"]


async def test_the_body_reaches_vllm_unchanged(client, inner: Inner) -> None:
    body = b'{"model": "tiny", "prompt": "\xc3\xa4", "priority": -5}'
    await client.post("/v1/completions", content=body)
    assert inner.body == body


async def test_malformed_json_is_refused_at_the_door(client, inner: Inner) -> None:
    assert_openai_error(await client.post("/v1/completions", content=b"{bad"), 400, "invalid_json")
    assert inner.seen == {}


async def test_a_huge_body_is_refused_by_its_length_and_by_its_bytes(client, inner, monkeypatch) -> None:
    monkeypatch.setattr(body_module, "MAX_BODY_BYTES", 1000)
    big = b'{"prompt": "' + b"x" * 2000 + b'"}'
    assert_openai_error(await client.post("/v1/completions", content=big), 413, "request_too_large")

    async def chunks():
        for start in range(0, len(big), 100):
            yield big[start : start + 100]

    assert_openai_error(await client.post("/v1/completions", content=chunks()), 413, "request_too_large")
    assert inner.seen == {}


async def test_a_body_that_does_not_come_is_not_waited_for(client, monkeypatch) -> None:
    monkeypatch.setattr(body_module, "BODY_TIMEOUT_S", 0.05)

    async def drip():
        yield b"{"
        await asyncio.sleep(60)
        yield b"}"

    assert_openai_error(await client.post("/v1/completions", content=drip()), 408, "request_timeout")


async def test_a_bug_is_a_typed_500_without_details(client, inner: Inner) -> None:
    inner.fails = True
    reply = await client.post("/v1/completions", content=b"{}")
    assert_openai_error(reply, 500, "internal_error")
    assert "a bug" not in reply.text


async def test_refusals_of_vllm_get_retry_after(client, inner: Inner) -> None:
    inner.status, inner.chunks = 503, [b'{"error": {}}']
    assert (await client.post("/v1/completions", content=b"{}")).headers["retry-after"] == "1"
    inner.status = 400
    assert "retry-after" not in (await client.post("/v1/completions", content=b"{}")).headers


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_of_the_queue_is_told_like_one_at_the_gate(
    client, inner: Inner, stream: bool
) -> None:
    inner.refusal = LimitError(429, "rate_limit_exceeded", "too many wait", "tenant.queued_requests", 1.0)
    error = b'{"error": {"message": "too many wait", "param": null, "code": 429}}'
    if stream:
        inner.stream(b"data: " + error + b"\n\n", b"data: [DONE]\n\n")
    else:
        inner.status, inner.chunks = 429, [error]
    reply = await client.post("/v1/completions", content=b"{}")
    assert_openai_error(reply, 429, "rate_limit_exceeded")
    assert reply.json()["error"]["param"] == "tenant.queued_requests"
    assert reply.headers.get_list("x-ratelimit-limit-name") == ["tenant.queued_requests"]
    assert reply.headers.get_list("retry-after") == ["1"]


async def test_a_stream_passes_through(client, inner: Inner) -> None:
    inner.stream(b"data: {}\n\n", b"data: [DONE]\n\n")
    reply = await client.post("/v1/completions", content=b"{}")
    assert (reply.status_code, reply.text) == (200, "data: {}\n\ndata: [DONE]\n\n")


async def test_a_stream_that_fails_before_its_first_token_is_a_real_error(client, inner: Inner) -> None:
    error = {"error": {"message": "no room", "type": "Service Unavailable", "param": None, "code": 503}}
    inner.stream(b"data: " + json.dumps(error).encode() + b"\n\n", b"data: [DONE]\n\n")
    reply = await client.post("/v1/completions", content=b"{}")
    assert reply.status_code == 503 and reply.json() == error
    assert reply.headers["retry-after"] == "1"


async def test_a_stream_that_fails_later_ends_with_an_error_event(client, inner: Inner) -> None:
    inner.stream(b'data: {"choices": []}\n\n', b'data: {"error": {}}\n\n', b"data: [DONE]\n\n")
    reply = await client.post("/v1/completions", content=b"{}")
    assert reply.status_code == 200 and reply.text.count("data:") == 3


class Answers:
    """An app that gives one JSON answer, as vLLM's does."""

    def __init__(self, body: bytes, *, pieces: int = 1) -> None:
        self.body, self.pieces = body, pieces

    async def __call__(self, scope, receive, send) -> None:
        length = str(len(self.body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        step = -(-len(self.body) // self.pieces)
        for at in range(0, len(self.body), step):
            rest = at + step < len(self.body)
            await send({"type": "http.response.body", "body": self.body[at : at + step], "more_body": rest})


@pytest.mark.parametrize(("asked", "used"), [("flex", "flex"), ("priority", "priority"), ("auto", "default")])
async def test_the_tier_used_is_told_in_the_answer_and_in_a_header(client, asked: str, used: str) -> None:
    client.door.inner = Answers(b'{"id":"c","service_tier":null,"choices":[]}')
    reply = await client.post("/v1/chat/completions", json={"service_tier": asked})
    assert reply.json()["service_tier"] == used
    assert reply.headers["x-service-tier"] == used
    assert reply.headers["content-length"] == str(len(reply.content))


async def test_an_answer_in_pieces_stays_as_long_as_it_said(client) -> None:
    body = b'{"id":"c","service_tier":null}'
    client.door.inner = Answers(body, pieces=3)
    assert (await client.post("/v1/chat/completions", json={})).content == body


async def test_the_tier_is_told_in_events_too(client, inner: Inner) -> None:
    inner.stream(b'data: {"response":{"service_tier":"auto"}}\n\n')
    reply = await client.post("/v1/responses", json={"service_tier": "flex"})
    assert b'"service_tier":"flex"' in reply.content


@pytest.mark.parametrize("path", ["/metrics", "/internal/status"])
async def test_what_is_for_operators_looks_like_nothing_to_others(client, path: str) -> None:
    door = client.door
    door.metrics = door.operator_answer = lambda headers: b"told" if (b"x-op", b"1") in headers else None
    assert_openai_error(await client.get(path), 404, "unknown_url")
    told = await client.get(path, headers={"X-Op": "1"})
    assert (told.status_code, told.content) == (200, b"told")


@pytest.mark.parametrize("message", ["'list' object has no attribute 'get'", "whatever"])
async def test_a_500_before_anything_was_made_is_the_bodys_fault(client, inner: Inner, message: str) -> None:
    """vLLM's own checks miss some shapes."""
    inner.status, inner.chunks = 500, [json.dumps({"error": {"message": message}}).encode()]
    reply = await client.post("/v1/completions", json={"prompt": "x"})
    assert_openai_error(reply, 400, "unusable_body")
    assert message in reply.json()["error"]["message"]
    inner.stream(b'data: {"error": {"message": "bad", "code": 500}}\n\n')
    assert (await client.post("/v1/completions", json={"prompt": "x"})).status_code == 400
    inner.reaches_engine = True
    assert (await client.post("/v1/completions", json={"prompt": "x"})).status_code == 500
