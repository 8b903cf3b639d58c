"""Whatever a client sends: no 5xx, no dead engine, no request left behind, nobody else kept waiting."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from controlplane.gateway.body_form import MAX_DEPTH
from controlplane.gateway.envelope import MAX_BODY_BYTES, RefusedError, read_envelope
from tests.gateway.bad_bodies import MODEL, BadBody, bad_bodies
from tests.gateway.harness import Fleet

KEY = (b"authorization", b"Bearer good-key")
SEED = 20261121


class TestEnvelope:
    """What is refused before vLLM, let alone a tokenizer, sees it."""

    @pytest.mark.parametrize(
        ("body", "says"),
        [
            (b'{"x": ' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "nested deeper"),
            (b'{"x": ' + b'{"a":' * 70 + b"1" + b"}" * 71, "nested deeper"),
            (b"[" * 100_000 + b"]" * 100_000, "nested"),
            (b'{"model": "a", "model": "b"}', "'model' is there twice"),
            (b'{"max_tokens": 1, "stream": true, "max_tokens": -1}', "'max_tokens' is there twice"),
            (b'{"tools": [{"n": 1, "n": 2}], "x": {"n": 3}}', "'n' is there twice"),
            (b'{"temperature": NaN}', "malformed|invalid"),
            (b'{"temperature": Infinity}', "malformed|invalid"),
            (b'{"stop": [' + b'"a",' * 64 + b'"a"]}', "stop: at most 64, got 65"),
            (b'{"stop": "' + b"a" * 5000 + b'"}', "at most 4096 characters"),
            (b'{"bad_words": [' + b'"a",' * 64 + b'"a"]}', "bad_words: at most 64"),
            (b'{"messages": [' + b"5," * 20_000 + b"5]}", "more than 10000 parts"),
            (b'{"tokens": [' + b'"a",' * 20_000 + b"5]}", "more than 10000 parts"),
            (b'{"vllm_xargs": {' + b",".join(b'"%d": 1' % i for i in range(20_000)) + b"}}", "10000 parts"),
            (b'{"n": 129}', "n: must be at most 128"),
            (b'{"n": ' + b"9" * 30 + b"}", "n: must be at most 128"),
            (b'{"prompt": [' + b'"a",' * 256 + b'"a"]}', "prompt: at most 256"),
            (b'{"tools": ["' + b"a" * 140_000 + b'"]}', "tools: must be at most 131072 bytes"),
            (b'{"response_format": {"schema": {"minLength": 1000000}}}', "minLength must be at most"),
            (b'{"structured_outputs": {"regex": "a{99999}"}}', "multiply to more than"),
            (b'{"structured_outputs": {"regex": "(a{200}){200}"}}', "multiply to more than"),
            (b'{"structured_outputs": {"regex": "' + b"a" * 3000 + b'"}}', "at most 2000 characters"),
            (b'{"text": {"format": {"schema": {"pattern": "a{99999}"}}}}', "multiply to more than"),
            (b'{"tools": [' + b"1," * 6000 + b"1]}", "more than 5000 parts"),
        ],
    )
    def test_what_is_too_much_is_refused_with_the_reason(self, body: bytes, says: str) -> None:
        with pytest.raises(RefusedError, match=says) as caught:
            read_envelope(body)
        assert caught.value.error.status == 400

    @pytest.mark.parametrize(
        "body",
        [
            b'{"x": ' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
            b'{"messages": [' + b'{"role": "user", "content": "{[{["},' * 200 + b"{}]}",
            b'{"prompt": "say \\"model\\": \\"model\\": and \\"n\\": 1, \\"n\\": 2"}',
            b'{"messages": [{"n": 1}, {"n": 2}]}',
            b'{"prompt": [' + b"1," * 100_000 + b"1]}",
            b'{"structured_outputs": {"regex": "[a-z]{1,20}-[0-9]{4}"}}',
            b'{"prompt": "' + b"one, two, " * 50_000 + b'"}',
        ],
    )
    def test_what_is_merely_unusual_passes(self, body: bytes) -> None:
        read_envelope(body)

    @pytest.mark.parametrize("size", [MAX_BODY_BYTES - 100])
    def test_a_large_body_is_looked_at_in_no_time(self, size: int) -> None:
        """Bounded by what the bytes' size allows, not by how clever its brackets are."""
        for piece in (b"x", b'\\"n\\": ', b"{", b"["):
            body = b'{"prompt": "' + piece * (size // len(piece)) + b'"}'
            started = time.process_time()
            read_envelope(body)
            assert time.process_time() - started < 2.0


@pytest.fixture
def agents(fleet: Fleet) -> Iterator[Fleet]:
    for name in ("a", "b"):
        fleet.add_agent(name)
    yield fleet
    for name in list(fleet.agents):
        fleet.stop_agent(name)


async def ask(fleet: Fleet, bad: BadBody) -> tuple[int, bytes]:
    """Through the door itself, without a socket between: ten thousand must not take minutes."""
    given = False
    status, pieces = 0, []

    async def receive():
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": bad.content, "more_body": False}
        return await asyncio.get_running_loop().create_future()

    async def send(message) -> None:
        nonlocal status
        status = message.get("status", status)
        pieces.append(message.get("body", b""))

    headers = [KEY, (b"content-type", b"application/json")]
    scope = {
        "type": "http", "method": "POST", "path": bad.path, "raw_path": bad.path.encode(), "headers": headers,
        "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
        "asgi": {"version": "3.0"},
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await fleet.process.door(scope, receive, send)
    return status, b"".join(pieces)


async def ask_all(fleet: Fleet, bodies: list[BadBody]) -> list[tuple[int, bytes]]:
    gate = asyncio.Semaphore(32)

    async def gated(bad: BadBody) -> tuple[int, bytes]:
        async with gate, asyncio.timeout(120):
            return await ask(fleet, bad)

    return await asyncio.gather(*(gated(bad) for bad in bodies))


def judge(bodies: list[BadBody], answers: list[tuple[int, bytes]]) -> Counter[int]:
    for bad, (status, body) in zip(bodies, answers, strict=True):
        assert 200 <= status < 500, (status, body[:300], bad.path, bad.content[:500])
        if status != 200:
            assert json.loads(body)["error"]["message"], (bad, body)
    return Counter(status for status, _ in answers)


def is_well(fleet: Fleet) -> bool:
    body = {"model": MODEL, "prompt": "x", "max_tokens": 3}
    headers = {"Authorization": "Bearer good-key"}
    reply = httpx.post(f"{fleet.url}/v1/completions", json=body, headers=headers, timeout=60)
    return reply.status_code == 200


@pytest.mark.engine
@pytest.mark.paced
@pytest.mark.slow  # ten thousand requests through vLLM's whole front half
@pytest.mark.timeout(600)
def test_ten_thousand_bad_bodies_break_nothing(agents: Fleet) -> None:
    for part in range(10):
        bodies = list(bad_bodies(1000, SEED + part))
        found = judge(
            bodies, asyncio.run_coroutine_threadsafe(ask_all(agents, bodies), agents.loop.loop).result(500)
        )
        assert found[400] > 300
    agents.wait_for(lambda: agents.gateway.open_requests == 0)
    assert agents.gateway.links.usable() == {"a", "b"}
    assert is_well(agents)


@pytest.mark.engine
def test_nor_do_some_hundreds_at_real_engines(engines: Fleet) -> None:
    recovered = engines.gateway.journal.counters["recoveries"]
    bodies = list(bad_bodies(600, SEED - 1))
    found = judge(
        bodies, asyncio.run_coroutine_threadsafe(ask_all(engines, bodies), engines.loop.loop).result(280)
    )
    assert found[200] and found[400]
    engines.wait_for(lambda: engines.gateway.open_requests == 0)
    engines.wait_for(lambda: sum(agent.engine.load().used_blocks for agent in engines.agents.values()) == 0)
    assert engines.gateway.links.usable() == {"v1", "v2"} and is_well(engines)
    assert engines.gateway.journal.counters["recoveries"] == recovered


@pytest.mark.engine
@pytest.mark.paced
def test_bad_input_items_hold_nobody_up(agents: Fleet) -> None:
    """Five thousand of them took vLLM's check eight seconds, in which nothing else was served."""
    fine = {"role": "user", "content": "x"}
    bad = [
        {"input": [fine] * 40 + [odd] * 4000}
        for odd in (5, {}, {"type": "x"}, {"role": "user", "content": [5]})
    ]
    bodies = [BadBody("/v1/responses", json.dumps({"model": MODEL, **each}).encode()) for each in bad]
    good = BadBody(
        "/v1/responses", json.dumps({"model": MODEL, "input": [fine] * 40, "max_output_tokens": 2}).encode()
    )
    before = time.process_time()
    answers = asyncio.run_coroutine_threadsafe(ask_all(agents, [*bodies, good]), agents.loop.loop).result(120)
    assert time.process_time() - before < 5.0
    assert [status for status, _ in answers] == [400, 400, 400, 400, 200]
    assert b"item 4" in answers[0][1]


@pytest.mark.engine
@pytest.mark.paced
def test_huge_prompts_are_refused_before_they_are_tokenized(agents: Fleet) -> None:
    headers = {"Authorization": "Bearer good-key"}
    with httpx.Client(base_url=agents.url, headers=headers, timeout=60) as raw:
        body = json.dumps({"model": MODEL, "prompt": "x" * 10 * 2**20}).encode()
        assert raw.post("/v1/completions", content=body).status_code == 413
        before = time.process_time()
        reply = raw.post("/v1/completions", json={"model": MODEL, "prompt": "word " * 800_000})
        assert reply.status_code == 400
        assert time.process_time() - before < 2.0, "four megabytes were tokenized"
        assert is_well(agents)
