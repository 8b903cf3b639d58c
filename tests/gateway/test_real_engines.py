"""The whole data plane in one process: gateway, agents, two vLLM engines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.gateway.harness import MODEL, Fleet
from tests.pacing import set_least_step

pytestmark = pytest.mark.engine

SHAPES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 1.0, "seed": 7},
    "seeded with penalties": {
        "temperature": 0.9,
        "seed": 11,
        "frequency_penalty": 0.4,
        "presence_penalty": 0.3,
        "extra_body": {"repetition_penalty": 1.1},
    },
    "log-probabilities": {"temperature": 0, "logprobs": 3},
}


UNHURRIED_MS = 6.0
"""Of each step at least: a stream lasts for seconds, so that what strikes after some chunks is in time."""


@pytest.fixture
def unhurried(engines: Fleet) -> Iterator[None]:
    for agent in engines.agents.values():
        set_least_step(agent.engine, UNHURRIED_MS)
    yield
    for agent in engines.agents.values():
        set_least_step(agent.engine, 0.0)


@pytest.fixture
def client(engines: Fleet) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{engines.url}/v1", api_key="good-key", max_retries=0, timeout=300)


def ask(shape: str, **more: Any) -> dict[str, Any]:
    extra = {"ignore_eos": True, **SHAPES[shape].get("extra_body", {})}
    rest = {name: value for name, value in SHAPES[shape].items() if name != "extra_body"}
    prompt = "The fleet behaves like one big, fair engine because"
    return {"model": MODEL, "prompt": prompt, "max_tokens": 120, **rest, "extra_body": extra, **more}


def stream(client: openai.OpenAI, request: dict[str, Any], at: dict[int, Callable[[], None]] | None = None):
    """Chunks of a streamed completion; ``at[n]`` is called after the n-th."""
    chunks = []
    for number, chunk in enumerate(client.completions.create(**request, stream=True)):
        chunks.append(chunk)
        if at and number in at:
            at[number]()
    return chunks


def text_of(chunks) -> str:
    return "".join(chunk.choices[0].text for chunk in chunks)


def logprobs_of(chunks) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for chunk in chunks:
        logprobs = chunk.choices[0].logprobs
        if logprobs is not None:
            values = [round(value, 4) for value in logprobs.token_logprobs]
            found += zip(logprobs.tokens, values, strict=True)
    return found


def owner_of_the_only(fleet: Fleet):
    (entry,) = fleet.loop.call(lambda: list(fleet.gateway.journal))
    return entry.owner_id


def last_record(fleet: Fleet, chunks):
    http_id = chunks[0].id
    fleet.wait_for(lambda: any(r.request_id.startswith(http_id) for r in fleet.records))
    return next(r for r in fleet.records if r.request_id.startswith(http_id))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stream_is_the_same_whichever_engine_makes_it(engines: Fleet, client, shape: str) -> None:
    runs = [stream(client, ask(shape)) for _ in range(2)]
    assert text_of(runs[0]) == text_of(runs[1]) != ""
    whole = client.completions.create(**ask(shape))
    assert whole.choices[0].text == text_of(runs[0]) and whole.usage.completion_tokens == 120


# The plain shapes move and break by the dozen in tests/faults.
RICH = [
    pytest.param(shape, marks=[pytest.mark.long] if shape in ("greedy", "seeded") else []) for shape in SHAPES
]


@pytest.mark.parametrize("shape", RICH)
def test_a_link_that_breaks_in_mid_stream_changes_no_token(
    engines: Fleet, client, unhurried: None, shape: str
) -> None:
    expected = stream(client, ask(shape, max_tokens=400))

    def cut() -> None:
        owner = owner_of_the_only(engines)
        engines.loop.call(lambda: engines.gateway.links._links[owner].lose("cut by the test"))

    chunks = stream(client, ask(shape, max_tokens=400), {15: cut, 50: cut})
    assert text_of(chunks) == text_of(expected)
    assert logprobs_of(chunks) == logprobs_of(expected)
    record = last_record(engines, chunks)
    assert record.recoveries == 2 and record.output_tokens == 400 and record.outcome == "length"


@pytest.mark.parametrize("shape", RICH)
def test_a_live_move_in_mid_stream_changes_no_token(
    engines: Fleet, client, unhurried: None, shape: str
) -> None:
    expected = stream(client, ask(shape, max_tokens=400))
    refusals: list[str] = []

    def move() -> None:
        refusals.append(engines.move_the_only())

    chunks = stream(client, ask(shape, max_tokens=400), {10: move, 40: move, 70: move})
    assert text_of(chunks) == text_of(expected)
    assert logprobs_of(chunks) == logprobs_of(expected)
    record = last_record(engines, chunks)
    assert "" in refusals  # one that is under way refuses the next
    assert record.moves >= 1 and record.recoveries == 0 and record.output_tokens == 400
    assert len(record.instance_ids) == record.moves + 1
    engines.wait_for(lambda: sum(agent.load().used_blocks for agent in engines.agents.values()) == 0)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_leaves_aborts_at_the_present_owner(engines: Fleet, streamed: bool) -> None:
    body = {"model": MODEL, "prompt": "x", "max_tokens": 1900, "stream": streamed, "ignore_eos": True}
    headers = {"Authorization": "Bearer good-key"}
    agents = [engines.agents[name] for name in ("v1", "v2")]
    with (
        httpx.Client(base_url=engines.url, headers=headers) as raw,
        pytest.raises(httpx.ReadTimeout),
        raw.stream("POST", "/v1/completions", json=body, timeout=0.7) as reply,
    ):
        deadline = time.monotonic() + 0.7
        for _ in reply.iter_raw():
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout("enough")
    engines.wait_for(lambda: sum(agent.engine.load().running for agent in agents) == 0)
    engines.wait_for(lambda: engines.gateway.open_requests == 0)
    engines.wait_for(lambda: sum(agent.engine.load().used_blocks for agent in agents) == 0)


def test_chat_with_many_at_once(engines: Fleet, client) -> None:
    def one(number: int):
        reply = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": f"say {number}"}],
            max_tokens=30,
            seed=number,
        )
        return reply.choices[0].message.content

    with ThreadPoolExecutor(8) as pool:
        crowd = list(pool.map(one, range(16)))
    assert crowd == [one(number) for number in range(16)]


def test_a_dead_engine_in_mid_stream_is_survived(engines: Fleet, client, unhurried: None) -> None:
    expected = stream(client, ask("seeded", max_tokens=400))
    killed = ""

    def kill() -> None:
        nonlocal killed
        killed = owner_of_the_only(engines)
        engines.kill(killed)

    chunks = stream(client, ask("seeded", max_tokens=400), {20: kill})
    assert text_of(chunks) == text_of(expected)
    assert last_record(engines, chunks).recoveries >= 1
