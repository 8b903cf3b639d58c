"""vLLM's own metrics of an instance: its names, and what they say of requests that come, end and move."""

from __future__ import annotations

import pytest

from engine_agents.metric_messages import MetricFamily
from engine_agents.vllm_engine.metrics import Distribution
from tests.vllm_engine.harness import Site, move

pytestmark = pytest.mark.engine

PROMPT = list(range(3, 60))
OF_A_SERVER = {
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:prefix_cache_queries",
    "vllm:prefix_cache_hits",
    "vllm:num_preemptions",
    "vllm:prompt_tokens",
    "vllm:generation_tokens",
    "vllm:request_success",
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:iteration_tokens_total",
    "vllm:request_params_max_tokens",
    "vllm:time_to_first_token_seconds",
    "vllm:inter_token_latency_seconds",
    "vllm:request_time_per_output_token_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:request_inference_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
    "vllm:cache_config_info",
}


class Reading:
    """All families of an engine at one moment, to be compared with an earlier one."""

    def __init__(self, site: Site) -> None:
        self.families: dict[str, MetricFamily] = {each.name: each for each in site.engine.metrics()}

    def value(self, name: str, **labels: str) -> float:
        """Of a counter or gauge; the number of observations of a histogram."""
        family = self.families[name]
        wanted = [
            each
            for each in family.series
            if labels.items() <= dict(zip(family.label_names, each.labels, strict=True)).items()
        ]
        return sum(each.counts[-1] if each.counts else each.value for each in wanted)

    def since(self, before: Reading, name: str, **labels: str) -> float:
        return self.value(name, **labels) - before.value(name, **labels)


def test_the_names_are_those_of_vllms_server(site):
    families = Reading(site).families
    assert set(families) >= OF_A_SERVER
    gaps = families["vllm:inter_token_latency_seconds"]
    assert gaps.label_names == ["model_name", "engine"]
    assert (gaps.kind, gaps.bounds[0], len(gaps.series[0].counts)) == (
        "histogram",
        0.01,
        len(gaps.bounds) + 1,
    )


def test_a_request_is_counted_from_its_prompt_to_its_end(site):
    before = Reading(site)
    site.run("counted", PROMPT, max_tokens=20, ignore_eos=True)
    site.wait_idle()
    after = Reading(site)
    assert after.since(before, "vllm:prompt_tokens") == len(PROMPT)
    assert after.since(before, "vllm:generation_tokens") == 20
    assert after.since(before, "vllm:inter_token_latency_seconds") == 19
    assert after.since(before, "vllm:request_success", finished_reason="length") == 1
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time", "request_decode_time"):
        assert after.since(before, f"vllm:{name}_seconds") == 1
    assert after.since(before, "vllm:request_params_max_tokens") == 1
    assert after.value("vllm:num_requests_running") == 0


def test_what_is_found_in_the_prefix_cache_is_told(site):
    prompt = [7 + number % 90 for number in range(200)]
    site.run("first", prompt, max_tokens=2, ignore_eos=True)
    before = Reading(site)
    site.run("second", prompt, max_tokens=2, ignore_eos=True)
    after = Reading(site)
    hits = after.since(before, "vllm:prefix_cache_hits")
    assert 0 < hits < len(prompt)
    assert after.since(before, "vllm:prefix_cache_queries") == len(prompt)
    assert after.since(before, "vllm:prompt_tokens_cached") == hits


def test_a_request_that_moves_is_counted_where_things_happened(sites):
    source, destination = sites
    before = [Reading(each) for each in sites]
    name = source.add("moving", PROMPT, max_tokens=60, ignore_eos=True)
    source.at_least(name, 10)
    move(source, destination, name, "moving#2")
    destination.finished("moving#2")
    after = [Reading(each) for each in sites]

    def changes(metric: str) -> list[float]:
        return [now.since(then, metric) for now, then in zip(after, before, strict=True)]

    assert sum(changes("vllm:generation_tokens")) == 60
    assert changes("vllm:prompt_tokens") == [len(PROMPT), 0]
    assert changes("vllm:time_to_first_token_seconds") == [1, 0]
    assert changes("vllm:request_success") == [0, 1]
    # The pause between the last token there and the first one here is the gateway's to tell.
    assert sum(changes("vllm:inter_token_latency_seconds")) == 60 - 2


def test_metrics_that_fail_end_no_engine(site, monkeypatch):
    serving = site.engine.serving

    def fail(*_: object) -> None:
        raise RuntimeError("a number that is none")

    monkeypatch.setattr(serving.metrics, "step", fail)
    assert len(site.run("goes on", PROMPT, max_tokens=5, ignore_eos=True).tokens) == 5
    assert serving.thread.metrics is None
    serving.thread.metrics = serving.metrics


def test_equal_values_cost_one_observation():
    found = Distribution([0.1, 1.0])
    found.add(0.1, 3)
    found.add(0.5, 2)
    found.add(9.0)
    series = found.series(["m"])
    assert (series.counts, round(series.value, 3)) == ([3, 5, 6], 10.3)
