"""OpenAI clients against the real front half; agents run the simulated engine, whose tokens are exact."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.gateway.process import Rules
from controlplane.scheduling.config import SchedulingConfig
from tests.gateway.harness import MODEL, Fleet
from tests.gateway.identities import CLASSES

pytestmark = [pytest.mark.engine, pytest.mark.paced]

SLOW = {"base_step_ms": 10.0}
SOON_S = 20.0
"""At once, for a busy machine; who waits for an engine waits for a minute and more."""


@pytest.fixture
def client(fleet: Fleet) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="good-key", max_retries=0, timeout=120)


@pytest.fixture
def raw(fleet: Fleet) -> Iterator[httpx.Client]:
    headers = {"Authorization": "Bearer good-key"}
    with httpx.Client(base_url=fleet.url, headers=headers, timeout=120) as made:
        yield made


@pytest.fixture
def agents(fleet: Fleet) -> Iterator[Fleet]:
    """Two fast agents; whatever a test leaves is removed."""
    for name in ("a", "b"):
        fleet.add_agent(name)
    yield fleet
    for name in list(fleet.agents):
        fleet.stop_agent(name)
    fleet.wait_for(lambda: not fleet.gateway.links.usable())


def record_of(fleet: Fleet, request_id: str):
    fleet.wait_for(lambda: any(r.request_id.startswith(request_id) for r in fleet.records))
    return next(r for r in fleet.records if r.request_id.startswith(request_id))


class TestWithoutEngines:
    def test_models_are_listed(self, client: openai.OpenAI) -> None:
        assert [model.id for model in client.models.list()] == [MODEL]

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_request_is_refused_at_once_with_retry_after(self, raw: httpx.Client, stream: bool) -> None:
        body = {"model": MODEL, "prompt": "x", "stream": stream}
        reply = raw.post("/v1/completions", json=body)
        assert reply.status_code == 503 and reply.headers["retry-after"] == "1"
        assert "No engine instance" in reply.json()["error"]["message"]
        assert reply.elapsed.total_seconds() < SOON_S

    def test_health_says_so(self, raw: httpx.Client) -> None:
        reply = raw.get("/health")
        assert (reply.status_code, reply.json()["status"]) == (503, "no engine")


class TestServing:
    def test_completion(self, agents: Fleet, client: openai.OpenAI) -> None:
        reply = client.completions.create(model=MODEL, prompt="Hello there", max_tokens=16, temperature=0)
        assert (
            reply.usage and reply.usage.completion_tokens == 16 and reply.choices[0].finish_reason == "length"
        )
        record = record_of(agents, reply.id)
        assert (record.tenant_id, record.key_id, record.slo_class_served) == (1, 11, "standard")
        assert (record.outcome, record.output_tokens, record.moves) == ("length", 16, 0)
        assert record.first_token_at is not None

    def test_a_stream_says_the_same_as_the_whole(self, agents: Fleet, client: openai.OpenAI) -> None:
        ask: dict[str, Any] = {"model": MODEL, "prompt": "Tell me", "max_tokens": 40, "temperature": 0}
        whole = client.completions.create(**ask).choices[0].text
        usage: Any = {"include_usage": True}
        chunks = list(client.completions.create(**ask, stream=True, stream_options=usage))
        assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole
        assert chunks[-1].usage.completion_tokens == 40
        assert len({chunk.id for chunk in chunks}) == 1

    def test_chat(self, agents: Fleet, client: openai.OpenAI) -> None:
        ask: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 12,
            "temperature": 0,
        }
        whole = client.chat.completions.create(**ask).choices[0].message.content
        streamed = client.chat.completions.create(**ask, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == whole

    def test_several_choices_and_prompts(self, agents: Fleet, client: openai.OpenAI) -> None:
        reply = client.completions.create(model=MODEL, prompt=["one", "two"], n=3, max_tokens=5, seed=1)
        assert len(reply.choices) == 6 and {choice.index for choice in reply.choices} == set(range(6))
        agents.wait_for(lambda: agents.gateway.open_requests == 0)

    def test_a_stop_string_ends_it_at_the_engine_too(self, agents: Fleet, client: openai.OpenAI) -> None:
        ask: dict[str, Any] = {"model": MODEL, "prompt": "Tell me", "max_tokens": 1000, "temperature": 0}
        text = client.completions.create(**ask | {"max_tokens": 60}).choices[0].text
        stop = next(char for char in text[10:] if char.isascii() and char.isprintable())
        reply = client.completions.create(**ask, stop=[stop])
        assert reply.choices[0].finish_reason == "stop"
        assert reply.choices[0].text == text[: text.index(stop)]
        assert record_of(agents, reply.id).outcome == "stop"
        agents.wait_for(lambda: all(agent.engine.load().running == 0 for agent in agents.agents.values()))

    def test_the_class_reaches_the_record(self, agents: Fleet, client: openai.OpenAI) -> None:
        reply = client.with_options(api_key="batch-key").completions.create(
            model=MODEL, prompt="x", max_tokens=2, extra_body={"service_tier": "priority", "priority": -9}
        )
        record = record_of(agents, reply.id)
        assert (record.slo_class_asked, record.slo_class_served) == ("interactive", "batch")


class TestBadRequests:
    @pytest.mark.parametrize(
        ("status", "body"),
        [
            (404, {"model": "nope", "prompt": "x"}),
            (400, {"model": MODEL, "prompt": "hello " * 9000}),
            (400, {"model": MODEL, "prompt": "x", "max_tokens": -1}),
            (400, {"model": MODEL, "prompt": "x", "n": 100000}),
            (400, {"model": MODEL, "prompt": "x", "temperature": "hot"}),
            (400, {"model": MODEL, "prompt": {"a": 1}}),
            (400, {"model": MODEL, "prompt": [999999999]}),
            (400, {"model": MODEL, "prompt": "x", "priority": "high"}),
            (400, [1, 2, 3]),
        ],
    )
    def test_is_answered_in_openai_shape(self, agents: Fleet, raw: httpx.Client, status: int, body) -> None:
        reply = raw.post("/v1/completions", json=body)
        assert reply.status_code == status
        assert reply.json()["error"]["message"] and reply.headers["x-request-id"]

    def test_a_lone_surrogate_does_no_harm(self, agents: Fleet, raw: httpx.Client) -> None:
        body = b'{"model": "tiny", "prompt": "\\ud800", "max_tokens": 2}'
        reply = raw.post("/v1/completions", content=body, headers={"content-type": "application/json"})
        assert reply.status_code in (200, 400)


class TestLeaving:
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_client_that_leaves_aborts_at_the_engine(self, agents: Fleet, raw, stream: bool) -> None:
        agents.stop_agent("b")
        agents.kill("a")
        agents.add_agent("c", engine_args=SLOW)
        body = {"model": MODEL, "prompt": "x", "max_tokens": 1500, "stream": stream, "ignore_eos": True}
        engine = agents.agents["c"].engine
        with (
            pytest.raises(httpx.ReadTimeout),
            raw.stream("POST", "/v1/completions", json=body, timeout=0.5) as reply,
        ):
            deadline = time.monotonic() + 0.5
            for _ in reply.iter_raw():
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("enough")
        agents.wait_for(lambda: engine.load().running == 0)
        agents.wait_for(lambda: agents.gateway.open_requests == 0 and agents.records[-1].outcome == "abort")


class TestLosingInstances:
    def test_a_stream_outlives_its_instance(self, agents: Fleet, client: openai.OpenAI) -> None:
        ask: dict[str, Any] = {
            "model": MODEL,
            "prompt": "Tell me all",
            "max_tokens": 200,
            "seed": 5,
            "temperature": 1.0,
        }
        expected = client.completions.create(**ask).choices[0].text
        for name in ("c", "d"):
            agents.add_agent(name, engine_args=SLOW)
        agents.stop_agent("a")
        agents.stop_agent("b")
        text, killed = "", ""
        for number, chunk in enumerate(client.completions.create(**ask, stream=True)):
            text += chunk.choices[0].text
            if number == 30:
                (entry,) = agents.loop.call(lambda: list(agents.gateway.journal))
                killed = entry.owner_id
                agents.kill(killed)
        assert text == expected
        record = record_of(agents, chunk.id)
        assert (record.recoveries, record.dispatches, record.outcome) == (1, 2, "length")
        assert record.instance_ids == (killed, ({"c", "d"} - {killed}).pop())

    def test_with_no_instance_left_the_stream_ends_with_a_typed_error(
        self, agents: Fleet, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from controlplane.gateway import live_requests

        monkeypatch.setattr(live_requests, "RECOVERY_LIMIT_EMPTY_S", 0.2)
        agents.add_agent("c", engine_args=SLOW)
        agents.stop_agent("a")
        agents.stop_agent("b")
        stream = client.completions.create(model=MODEL, prompt="x", max_tokens=1000, stream=True)
        with pytest.raises(openai.APIError) as caught:
            for number, _ in enumerate(stream):
                if number == 5:
                    agents.kill("c")
        assert "its instance was lost" in str(caught.value)
        agents.wait_for(lambda: agents.records and agents.records[-1].outcome == "error:503")

    def test_a_lost_instance_comes_back_and_takes_over(self, agents: Fleet, client: openai.OpenAI) -> None:
        ask: dict[str, Any] = {"model": MODEL, "prompt": "Come back", "max_tokens": 100, "temperature": 0}
        expected = client.completions.create(**ask).choices[0].text
        agents.add_agent("c", engine_args=SLOW)
        agents.stop_agent("a")
        agents.stop_agent("b")
        text = ""
        for number, chunk in enumerate(client.completions.create(**ask, stream=True)):
            text += chunk.choices[0].text
            if number == 20:
                agents.kill("c")
                agents.add_agent("e")
        assert text == expected

    @pytest.mark.parametrize("policy", [pytest.param("llumnix", marks=pytest.mark.long), "llumdeck"])
    def test_moves_cuts_and_a_death_under_load_cost_no_token(
        self, agents: Fleet, client: openai.OpenAI, policy: str
    ) -> None:
        asks: list[dict[str, Any]] = [
            {
                "model": MODEL,
                "prompt": f"Tale {number}",
                "max_tokens": 250,
                "seed": number,
                "temperature": 1.0,
            }
            for number in range(12)
        ]
        expected = [client.completions.create(**ask).choices[0].text for ask in asks]
        agents.rules = Rules(SchedulingConfig.for_policy(policy), CLASSES)
        agents.wait_for(lambda: agents.gateway.router.config.policy == policy)
        for name in ("c", "d", "e"):
            agents.add_agent(name, engine_args=SLOW)
        agents.stop_agent("a")
        agents.stop_agent("b")
        before = agents.gateway.journal.counters.copy()
        with ThreadPoolExecutor(len(asks)) as pool:
            running = [pool.submit(self.collect, client, ask) for ask in asks]
            agents.wait_for(lambda: agents.gateway.open_requests == len(asks))
            self.disturb(agents, random.Random(policy))
            texts = [each.result() for each in running]
        assert texts == expected
        agents.wait_for(lambda: agents.gateway.open_requests == 0)
        agents.wait_for(
            lambda: sum(a.load().used_blocks + a.load().reserved_blocks for a in agents.agents.values()) == 0
        )
        counts = agents.gateway.journal.counters
        assert counts["moves"] > before["moves"] and counts["recoveries"] > before["recoveries"]
        agents.rules = Rules(classes=CLASSES)

    @staticmethod
    def collect(client: openai.OpenAI, ask: dict[str, Any]) -> str:
        return "".join(chunk.choices[0].text for chunk in client.completions.create(**ask, stream=True))

    @staticmethod
    def disturb(fleet: Fleet, chance: random.Random) -> None:
        for turn in range(20):
            entries = fleet.loop.call(lambda: list(fleet.gateway.journal))
            for entry in chance.sample(entries, min(2, len(entries))):
                fleet.move(entry)
            owners = [entry.owner_id for entry in entries if entry.owner_id in fleet.agents]
            if not owners:
                return
            busiest = max(sorted(set(owners)), key=owners.count)
            if turn == 6:
                fleet.loop.call(fleet.gateway.links._links[busiest].lose, "cut by the test")
            if turn == 10:
                fleet.kill(busiest)
            time.sleep(0.03)

    def test_a_draining_instance_gets_no_new_work_and_ends_its_old(self, agents: Fleet, client) -> None:
        agents.loop.call(agents.agents["a"].set_accepting, False, 1)
        time.sleep(0.2)
        for _ in range(4):
            reply = client.completions.create(model=MODEL, prompt="x", max_tokens=2)
            assert record_of(agents, reply.id).instance_ids == ("b",)


class TestFuzz:
    """Whatever a client sends: no 5xx, no dead engine, no request left behind.

    Fields that ask for log-probabilities are left out: the simulated engine has none to give.
    """

    values = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        st.text(max_size=20),
        st.lists(st.integers(-5, 300), max_size=5),
        st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    )
    fields = st.sampled_from([
        "prompt", "max_tokens", "n", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
        "echo", "suffix", "best_of", "logit_bias", "presence_penalty", "frequency_penalty",
        "priority", "stream_options", "service_tier", "min_tokens", "ignore_eos", "stop_token_ids",
        "bad_words", "response_format", "repetition_penalty", "truncate_prompt_tokens",
        "user", "add_special_tokens",
        "include_stop_str_in_output", "kv_transfer_params", "vllm_xargs", "cache_salt", "request_id",
        "session_id", "allowed_token_ids", "tools",
    ])  # fmt: skip

    @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(fields, values, max_size=5), st.booleans())
    def test_no_body_breaks_anything(
        self, agents: Fleet, raw: httpx.Client, fields: dict[str, Any], chat: bool
    ) -> None:
        body: dict[str, Any] = {"model": MODEL, "max_tokens": 4, **fields}
        if chat:
            body["messages"] = [{"role": "user", "content": str(body.pop("prompt", "x"))}]
        else:
            body.setdefault("prompt", "x")
        reply = raw.post("/v1/chat/completions" if chat else "/v1/completions", json=body)
        assert reply.status_code < 500, (reply.status_code, reply.text, body)
        if reply.status_code != 200:
            assert reply.json()["error"]["message"]
        agents.wait_for(lambda: agents.gateway.open_requests == 0)
