"""``/metrics``: real families, bounded labels, documented; and dashboards that ask for what exists."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from django.urls import resolve
from prometheus_client.parser import text_string_to_metric_families

from console.metrics import COUNTERS, FAMILIES
from controlplane.gateway.metrics import GatewayMetrics
from tests.console.fake_fleet import FakeFleet, Writer
from tests.engine_agents.test_tracing import finished

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/metrics.md"
VLLM_SAMPLES = {
    "vllm:time_to_first_token_seconds_bucket",
    "vllm:inter_token_latency_seconds_bucket",
    "vllm:e2e_request_latency_seconds_bucket",
    "vllm:request_queue_time_seconds_bucket",
    "vllm:prefix_cache_hits_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:iteration_tokens_total_sum",
    "vllm:iteration_tokens_total_count",
}
"""Of those that real engines are seen to have, in ``tests/vllm_engine/test_metrics.py``."""
BOUNDED = {
    "pool",
    "state",
    "instance",
    "direction",
    "model_name",
    "gateway",
    "slo_class",
    "rule",
    "outcome",
    "severity",
}


@pytest.fixture
def scraped(live_redis, as_role) -> dict:
    fleet = FakeFleet(instances=3, now=time.time())
    Writer(live_redis).write(fleet, time.time())
    answer = as_role("viewer").get("/metrics")
    assert answer["Content-Type"].startswith("text/plain")
    return {each.name: each for each in text_string_to_metric_families(answer.content.decode())}


def test_every_instance_is_exposed(scraped):
    names = {"main-1", "main-2", "main-3"}
    assert {each.labels["instance"] for each in scraped["llumdeck_instance_used_share"].samples} == names
    states = [each.labels["state"] for each in scraped["llumdeck_instance_requests"].samples]
    assert sorted(states) == ["running"] * 3 + ["waiting"] * 3
    for name in ("llumdeck_instance_preemptions", "llumdeck_instance_generated_tokens"):
        assert {each.name for each in scraped[name].samples} == {f"{name}_total"}


def test_vllms_names_are_counted_once(scraped):
    """They belong to ``/metrics/instances/<id>``; in both places a sum over them would be doubled."""
    assert not [name for name in scraped if name.startswith("vllm:")]


def test_labels_are_bounded_and_every_family_is_described(scraped):
    assert set(scraped) <= set(FAMILIES)
    for family in scraped.values():
        assert family.documentation
        for sample in family.samples:
            assert set(sample.labels) == set(FAMILIES[family.name].labels)
    assert {label for each in FAMILIES.values() for label in each.labels} <= BOUNDED


def test_without_redis_what_is_unknown_is_absent_and_not_zero(settings, as_role):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    text = as_role("viewer").get("/metrics").content.decode()
    assert 'llumdeck_instances{pool="main",state="ready"} 3.0' in text
    assert "llumdeck_loop_silent_seconds" not in text


def test_targets_are_what_prometheus_discovers(live_redis, as_role):
    fleet = FakeFleet(instances=1, now=time.time())
    Writer(live_redis).write(fleet, time.time())
    found = as_role("viewer").get("/metrics/targets").json()
    assert found
    assert all(set(each) == {"targets", "labels"} and "/" not in each["targets"][0] for each in found)


def test_a_gateway_counts_what_ended():
    metrics = GatewayMetrics()
    metrics.request_finished(finished())
    text = metrics.render().decode()
    assert 'llumdeck_gateway_requests_total{outcome="stop",slo_class="standard"} 1.0' in text
    assert 'llumdeck_gateway_tokens_total{kind="output",slo_class="standard"} 11.0' in text
    assert 'llumdeck_gateway_moves_total{slo_class="standard"} 1.0' in text


def known_names() -> set[str]:
    gateway = GatewayMetrics()
    gateway.request_finished(finished())
    own = set(re.findall(r"^(llumdeck_gateway_\w+?)(?:\{| )", gateway.render().decode(), re.MULTILINE))
    counters = {f"{name}_total" for name in COUNTERS}
    return own | set(FAMILIES) | counters | VLLM_SAMPLES


def asked_names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:llumdeck_|vllm:)\w+", expression))


def test_dashboards_ask_only_for_what_is_exposed():
    boards = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))
    assert len(boards) >= 3
    asked = set()
    for board in boards:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                asked |= asked_names(target["expr"])
    assert asked <= known_names()
    assert len(asked) > 15


def test_prometheus_keeps_the_label_instance_of_what_it_scrapes():
    """Without ``honor_labels`` an engine's ``instance`` would be called ``exported_instance``."""
    jobs = yaml.safe_load((ROOT / "docker/prometheus/prometheus.yml").read_text())["scrape_configs"]
    by_name = {each["job_name"]: each for each in jobs}
    for name in ("llumdeck-console", "llumdeck-instances"):
        assert by_name[name]["honor_labels"] is True
    paths = {each["url"].partition("8800")[2] for job in jobs for each in job.get("http_sd_configs", [])}
    assert {resolve(path).url_name for path in paths} == {"metrics-targets", "metrics-instance-targets"}


def test_prometheus_rules_ask_only_for_what_is_exposed_and_have_runbooks():
    rules = yaml.safe_load((ROOT / "docker/prometheus/rules.yml").read_text())["groups"][0]["rules"]
    runbooks = (ROOT / "docs/runbooks.md").read_text()
    for rule in rules:
        assert asked_names(rule["expr"]) <= known_names()
        assert f"## {rule['annotations']['runbook']}" in runbooks


def test_every_family_is_documented_with_what_to_do():
    text = DOCUMENT.read_text()
    for name, family in FAMILIES.items():
        assert f"`{name}" in text
        assert family.do in text, name


def test_every_family_of_a_gateway_is_documented_with_what_to_do():
    rows = dict(
        re.findall(
            r"^\| `(llumdeck_gateway_\w+)\{.*?\}` \| .+? \| (.*?) ?\|$", DOCUMENT.read_text(), re.MULTILINE
        )
    )
    metrics = GatewayMetrics()
    metrics.request_finished(finished())
    exposed = {family.name for family in text_string_to_metric_families(metrics.render().decode())}
    exposed = {name for name in exposed if name.startswith("llumdeck_")}
    assert {name.removesuffix("_total") for name in rows} - set(FAMILIES) == exposed
    assert all(rows.values())
