"""``/metrics``: real families, bounded labels, documented; and dashboards that ask for what exists."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from console.metrics import FAMILIES
from controlplane.gateway.metrics import GatewayMetrics
from tests.console.fake_fleet import FakeFleet, Writer
from tests.engine_agents.test_tracing import finished

ROOT = Path(__file__).resolve().parents[2]
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


def test_instances_are_exposed_under_our_names_and_vllms(scraped):
    assert {each.labels["instance"] for each in scraped["llumdeck_instance_used_share"].samples} == {
        "main-1", "main-2", "main-3"
    }  # fmt: skip
    for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"):
        assert len(scraped[name].samples) == 3
    for name in ("vllm:num_preemptions", "vllm:generation_tokens"):
        assert {each.name for each in scraped[name].samples} == {f"{name}_total"}


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
    return own | set(FAMILIES) | {"vllm:num_preemptions_total"}


def asked_names(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:llumdeck_|vllm:)\w+", expression))


def test_dashboards_ask_only_for_what_is_exposed():
    boards = sorted((ROOT / "docker/grafana/dashboards").glob("*.json"))
    assert len(boards) >= 2
    asked = set()
    for board in boards:
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                asked |= asked_names(target["expr"])
    assert asked <= known_names()
    assert len(asked) > 15


def test_prometheus_rules_ask_only_for_what_is_exposed_and_have_runbooks():
    rules = yaml.safe_load((ROOT / "docker/prometheus/rules.yml").read_text())["groups"][0]["rules"]
    runbooks = (ROOT / "docs/runbooks.md").read_text()
    for rule in rules:
        assert asked_names(rule["expr"]) <= known_names()
        assert f"## {rule['annotations']['runbook']}" in runbooks


def test_every_family_is_documented_with_what_to_do():
    text = (ROOT / "docs/metrics.md").read_text()
    for name, family in FAMILIES.items():
        assert f"`{name}" in text
        assert family.do in text, name
