"""``/metrics/instances/<id>``: one instance's metrics under vLLM's exact names, labelled ``instance``.

The agent writes what its engine counts to Redis every ten seconds; a scrape reads that and takes nothing
from the engine. Engines without metrics of their own (simulated ones) have the five that their report holds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

import msgspec
from django.http import Http404, HttpResponse
from django.urls import URLPattern, path
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from console.api.views.console_view import ConsoleView
from controlplane import redis_client
from controlplane.fleet.live_status import read_statuses
from controlplane.fleet.models import Instance
from controlplane.fleet.selectors import instances
from engine_agents.messages import InstanceStatus
from engine_agents.metric_messages import METRICS_KEY, InstanceMetrics, MetricFamily, MetricSeries

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
AGENT_EVENTS = "llumdeck_agent_events"
METRICS_AGE = "llumdeck_instance_metrics_age_seconds"
SERVING = frozenset(
    {Instance.State.READY, Instance.State.DRAINING, Instance.State.DRAINED, Instance.State.WARMING}
)


class NotTold(APIException):
    """So that Prometheus' ``up`` says so."""

    status_code = 503
    default_detail = "This instance has not told its metrics within the last minute."


class InstanceMetricsView(ConsoleView):
    """One instance's metrics; 503 while it does not tell any."""

    def get(self, request: Request, instance_id: str) -> HttpResponse:
        if not instances().filter(instance_id=instance_id).exists():
            raise Http404
        found = read_metrics(instance_id, now_s=time.time())
        if found is None:
            raise NotTold
        registry = CollectorRegistry(auto_describe=False)
        registry.register(InstanceCollector(found, time.time()))
        return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE)


class InstanceTargets(ConsoleView):
    """``/metrics/targets/instances``: a target per serving instance, at this address."""

    def get(self, request: Request) -> Response:
        rows = instances().filter(state__in=SERVING).values_list("instance_id", "pool__name")
        return Response(
            [
                {
                    "targets": [request.get_host()],
                    "labels": {
                        "__metrics_path__": f"/metrics/instances/{instance_id}",
                        "__scheme__": request.scheme,
                        "instance": instance_id,
                        "pool": pool,
                    },
                }
                for instance_id, pool in rows
            ]
        )


def read_metrics(instance_id: str, *, now_s: float) -> InstanceMetrics | None:
    """What the instance told last; ``None`` where it told nothing lately. Raises ``RedisError``."""
    with redis_client.connect() as client:
        raw = cast(bytes | None, client.get(redis_client.key(f"{METRICS_KEY}{instance_id}")))
    try:
        found = msgspec.msgpack.decode(raw, type=InstanceMetrics) if raw else None
    except msgspec.MsgspecError:
        found = None
    if found is not None and found.families:
        return found
    seen = next((each for each in read_statuses(now_s) if each.status.instance_id == instance_id), None)
    if seen is None or seen.age_s > 60.0:
        return None
    status = seen.status
    return InstanceMetrics(
        instance_id=instance_id,
        incarnation=status.incarnation,
        taken_at_s=status.reported_at_s,
        families=_from_report(status),
        agent_counts=found.agent_counts if found else {},
    )


def _from_report(status: InstanceStatus) -> list[MetricFamily]:
    """vLLM's names for what every report holds."""
    rows = [
        ("num_requests_running", "gauge", "Requests in the running batch.", status.running),
        ("num_requests_waiting", "gauge", "Requests in the engine's queue.", status.waiting),
        (
            "kv_cache_usage_perc",
            "gauge",
            "Used share of the KV cache; 1 is full.",
            status.used_blocks / max(1, status.total_blocks),
        ),
        ("num_preemptions", "counter", "Preemptions since the engine's start.", status.preemptions_total),
        ("generation_tokens", "counter", "Tokens generated since the engine's start.", status.tokens_total),
    ]
    labels = [status.served_model, "0"]
    return [
        MetricFamily(
            f"vllm:{name}", kind, says, ["model_name", "engine"], [MetricSeries(labels, float(value))]
        )
        for name, kind, says, value in rows
    ]


class InstanceCollector(Collector):
    def __init__(self, found: InstanceMetrics, now_s: float) -> None:
        self._found = found
        self._now_s = now_s

    def collect(self) -> Iterator[Metric]:
        name = self._found.instance_id
        for family in self._found.families:
            yield _metric(family, name)
        says = "What the agent met, by kind; refused_links and stale_epochs: callers turned away."
        events = CounterMetricFamily(AGENT_EVENTS, says, labels=["instance", "event"])
        for event, count in sorted(self._found.agent_counts.items()):
            events.add_metric([name, event], count)
        yield events
        age = GaugeMetricFamily(METRICS_AGE, "Age of these numbers; told every 10 s.", labels=["instance"])
        age.add_metric([name], max(0.0, self._now_s - self._found.taken_at_s))
        yield age


def _metric(family: MetricFamily, instance_id: str) -> Metric:
    names = ["instance", *family.label_names]
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.says, labels=names)
        for series in family.series:
            bounds = [*(str(bound) for bound in family.bounds), "+Inf"]
            buckets = list(zip(bounds, map(float, series.counts), strict=False))
            histogram.add_metric([instance_id, *series.labels], buckets, series.value)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.says, labels=names)
    for series in family.series:
        metric.add_metric([instance_id, *series.labels], series.value)
    return metric


urlpatterns: list[URLPattern] = [
    path("metrics/instances/<slug:instance_id>", InstanceMetricsView.as_view(), name="metrics-instance"),
    path("metrics/targets/instances", InstanceTargets.as_view(), name="metrics-instance-targets"),
]
