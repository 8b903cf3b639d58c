"""A gateway that is told to stop, and one whose engines have all gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from controlplane.gateway import routing
from tests.gateway.harness import MODEL, Fleet

pytestmark = [pytest.mark.engine, pytest.mark.paced]

SLOW = {"base_step_ms": 10.0}
SOON_S = 20.0
"""At once, for a busy machine; who waits for an engine waits for a minute and more."""


@pytest.fixture
def own(tiny_model: Path) -> Iterator[Fleet]:
    """A fleet of this test's own: it ends it."""
    from engine_agents.vllm_engine.frontend import build_front_half

    made = Fleet(str(tiny_model), build_front_half, {"max_model_len": 2048, "dtype": "float32"})
    made.add_agent("a", engine_args=SLOW)
    yield made
    made.close()


def client(fleet: Fleet) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="good-key", max_retries=0, timeout=120)


def test_sigterm_ends_no_stream_and_takes_nothing_new(own: Fleet) -> None:
    own.server.config.timeout_graceful_shutdown = 120
    asks = [{"model": MODEL, "prompt": f"Tale {n}", "max_tokens": 150, "temperature": 0} for n in range(4)]
    expected = [client(own).completions.create(**ask).choices[0].text for ask in asks]

    def stream(ask) -> str:
        return "".join(chunk.choices[0].text for chunk in client(own).completions.create(**ask, stream=True))

    with ThreadPoolExecutor(len(asks)) as pool:
        running = [pool.submit(stream, ask) for ask in asks]
        own.wait_for(lambda: own.gateway.open_requests == len(asks))
        own.wait_for(lambda: all(entry.tokens for entry in own.gateway.journal))
        own.loop.call(setattr, own.server, "should_exit", True)
        own.wait_for(lambda: not own.server.servers[0].is_serving())
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{own.url}/health", timeout=30)
        assert [each.result() for each in running] == expected
    own.wait_for(lambda: len(own.records) == 2 * len(asks))
    assert {record.outcome for record in own.records} <= {"length", "stop"}


def test_with_all_engines_gone_it_is_a_503_soon_and_service_returns(own: Fleet) -> None:
    body = {"model": MODEL, "prompt": "x", "max_tokens": 2}
    headers = {"Authorization": "Bearer good-key"}
    with httpx.Client(base_url=own.url, headers=headers, timeout=60) as raw:
        own.kill("a")
        own.wait_for(lambda: not own.gateway.links.usable())
        first = raw.post("/v1/completions", json=body)
        assert first.status_code == 503 and first.headers["retry-after"]
        own.wait_for(lambda: not own.gateway.router.engines_within_reach(time.monotonic()))
        later = raw.post("/v1/completions", json=body)
        assert later.status_code == 503 and later.elapsed.total_seconds() < SOON_S
        own.add_agent("b")
        assert raw.post("/v1/completions", json=body).status_code == 200


def test_a_link_that_breaks_for_a_moment_costs_no_new_request(
    own: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "RELINK_GRACE_S", 30.0)  # the machine may be busy
    own.wait_for(lambda: own.gateway.router.engines_within_reach(time.monotonic()))
    own.loop.call(own.gateway.links._links["a"].lose, "cut by the test")
    reply = client(own).completions.create(model=MODEL, prompt="x", max_tokens=5)
    assert reply.usage is not None and reply.usage.completion_tokens == 5
