"""One instance's metrics, passed through under vLLM's names, and where Prometheus finds them."""

from __future__ import annotations

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlplane import redis_client
from controlplane.fleet.models import Instance
from engine_agents.messages import encode
from engine_agents.metric_messages import METRICS_KEY, InstanceMetrics, MetricFamily, MetricSeries
from tests.console.fake_fleet import FakeFleet, Writer

LABELS = ["model_name", "engine"]
GAPS = MetricFamily(
    "vllm:inter_token_latency_seconds",
    "histogram",
    "Histogram of inter-token latency in seconds.",
    LABELS,
    [MetricSeries(["tiny", "0"], 1.25, [3, 5, 6])],
    [0.01, 0.025],
)
STOPPED = MetricFamily(
    "vllm:request_success",
    "counter",
    "Count of successfully processed requests.",
    [*LABELS, "finished_reason"],
    [MetricSeries(["tiny", "0", "stop"], 4.0), MetricSeries(["tiny", "0", "length"], 2.0)],
)


def tell(client, *families: MetricFamily, age_s: float = 1.0, **agent_counts: int) -> None:
    told = InstanceMetrics(
        instance_id="main-1",
        incarnation="i",
        taken_at_s=time.time() - age_s,
        families=list(families),
        agent_counts=agent_counts,
    )
    client.set(redis_client.key(f"{METRICS_KEY}main-1"), encode(told))


def scraped(client, instance_id: str = "main-1"):
    answer = client.get(f"/metrics/instances/{instance_id}")
    assert answer.status_code == 200, answer.content
    return {each.name: each for each in text_string_to_metric_families(answer.content.decode())}


def test_what_the_engine_counts_has_its_own_names_and_the_instance(live_redis, as_role):
    tell(live_redis, GAPS, STOPPED, refused_links=2)
    found = scraped(as_role("viewer"))
    gaps = {each.labels.get("le", each.name): each for each in found[GAPS.name].samples}
    assert [gaps[bound].value for bound in ("0.01", "0.025", "+Inf")] == [3, 5, 6]
    assert gaps[f"{GAPS.name}_sum"].value == 1.25
    assert gaps["0.01"].labels["instance"] == "main-1"
    ends = {each.labels["finished_reason"]: each.value for each in found[STOPPED.name].samples}
    assert ends == {"stop": 4.0, "length": 2.0}
    (event,) = found["llumdeck_agent_events"].samples
    assert (event.labels, event.value) == ({"instance": "main-1", "event": "refused_links"}, 2.0)
    assert 0.5 < found["llumdeck_instance_metrics_age_seconds"].samples[0].value < 60


def test_an_engine_without_metrics_of_its_own_has_those_of_its_report(live_redis, as_role):
    Writer(live_redis).write(FakeFleet(instances=3, now=time.time()), time.time())
    found = scraped(as_role("viewer"), "main-2")
    assert {name for name in found if name.startswith("vllm:")} == {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:num_preemptions",
        "vllm:generation_tokens",
    }


@pytest.mark.parametrize(("instance_id", "status"), [("main-1", 503), ("none-such", 404)])
def test_what_is_not_told_is_no_empty_success(live_redis, as_role, instance_id, status):
    live_redis.set(redis_client.key(f"{METRICS_KEY}{instance_id}"), b"\x81\xa4type\xa5other")
    assert as_role("viewer").get(f"/metrics/instances/{instance_id}").status_code == status


def test_prometheus_is_told_one_target_per_serving_instance(as_role):
    Instance.objects.filter(instance_id="main-3").update(state=Instance.State.STOPPED)
    found = as_role("viewer").get("/metrics/targets/instances", headers={"host": "testserver"}).json()
    assert [each["labels"]["instance"] for each in found] == ["main-1", "main-2"]
    assert found[0] == {
        "targets": ["testserver"],
        "labels": {
            "__metrics_path__": "/metrics/instances/main-1",
            "__scheme__": "http",
            "instance": "main-1",
            "pool": "main",
        },
    }
