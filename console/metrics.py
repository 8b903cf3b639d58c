"""``/metrics`` of the console: the fleet as the control plane sees it, for Prometheus.

Every family stands in :data:`FAMILIES` with its labels and what to do about it; labels
are bounded by the fleet's own configuration (instances, pools, classes, states), never by
requests or callers. What cannot be read now is left out: absent is not zero.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.urls import URLPattern, path
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from rest_framework.request import Request
from rest_framework.response import Response

from console import instance_metrics
from console.api.converters import register
from console.api.views.console_view import ConsoleView
from controlplane import redis_client
from controlplane.alerts.models import Alert
from controlplane.fleet.live_status import SeenStatus, read_gateways, read_statuses, to_cluster_snapshot
from controlplane.fleet.models import Instance
from controlplane.rebalancing.models import RequestMigration
from controlplane.rebalancing.selectors import loop_status, scheduling_class_rules
from controlplane.scheduling.load import freeness
from engine_agents.messages import GatewayStatus

RECENT = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: what it says, its labels, and what to do when it looks wrong."""

    says: str
    labels: tuple[str, ...]
    do: str


FAMILIES: dict[str, Family] = {
    "llumdeck_instances": Family(
        "Instances by pool and state.",
        ("pool", "state"),
        "unhealthy or quarantined above 0: runbook instance-unhealthy.",
    ),
    "llumdeck_instance_report_age_seconds": Family(
        "Age of an instance's last report.",
        ("instance",),
        "Above 3 s it gets no work: runbook instance-stale.",
    ),
    "llumdeck_instance_freeness_tokens": Family(
        "Virtual usage turned into decode steps until memory ends; what the scheduler acts on.",
        ("instance",),
        "Far apart between instances for minutes: is the loop leading, is migration allowed by the policy?",
    ),
    "llumdeck_instance_used_share": Family(
        "Share of an instance's KV memory in use.",
        ("instance",),
        "All near 1: scale up, or lower limits of batch tenants.",
    ),
    "llumdeck_instance_reserved_share": Family(
        "Share of KV memory held for arriving migrations.",
        ("instance",),
        "Stays above 0 without migrations: report it.",
    ),
    "llumdeck_instance_migrations": Family(
        "Migrations under way, in and out.",
        ("instance", "direction"),
        "At the slots' number for minutes: load is shifting.",
    ),
    "llumdeck_instance_requests": Family(
        "Requests in the engine's batch (running) and in its own queue (waiting).",
        ("instance", "state"),
        "waiting above 0 with late binding: pre-empted ones; runbook preemption-storm.",
    ),
    "llumdeck_instance_preemptions": Family(
        "Preemptions since the engine's start.",
        ("instance",),
        "Rising fast: runbook preemption-storm.",
    ),
    "llumdeck_instance_generated_tokens": Family(
        "Tokens generated since the engine's start.",
        ("instance",),
        "Flat while requests run: runbook instance-stale.",
    ),
    "llumdeck_fleet_queued_requests": Family(
        "Requests in a gateway's queue.", ("gateway",), "Rising: no instance has room; runbook queue-time."
    ),
    "llumdeck_gateway_open_streams": Family(
        "Requests that a gateway serves now.",
        ("gateway",),
        "0 on one of several: is it in the load balancer?",
    ),
    "llumdeck_class_ttft_p99_seconds": Family(
        "P99 time to first token over the last minute, worst gateway.",
        ("slo_class",),
        "Above target: runbook slo-burn-rate.",
    ),
    "llumdeck_class_tpot_p99_seconds": Family(
        "P99 time per output token over the last minute, worst gateway.",
        ("slo_class",),
        "Above target: runbook slo-burn-rate.",
    ),
    "llumdeck_class_attainment_ratio": Family(
        "Share of requests of the last minute that met the TTFT target.",
        ("slo_class",),
        "Below 0.99: runbook slo-burn-rate.",
    ),
    "llumdeck_migrations_recent": Family(
        "Migrations that ended in the last 5 minutes, by rule and outcome.",
        ("rule", "outcome"),
        "Mostly aborted or refused: look at their reasons on the Migrations page.",
    ),
    "llumdeck_loop_tick_seconds": Family(
        "Duration of the loop's last tick.", (), "Near the interval: fewer pools per loop."
    ),
    "llumdeck_loop_silent_seconds": Family(
        "Since the loop's last tick.", (), "Above 10: runbook loop-not-leading."
    ),
    "llumdeck_alerts": Family(
        "Open alerts.", ("severity", "state"), "critical firing above 0: open the Alerts page."
    ),
}


class FleetCollector(Collector):
    """Reads everything at each scrape."""

    def collect(self) -> Iterator[Metric]:
        families = {name: _family(name, each) for name, each in FAMILIES.items()}
        _from_rows(families)
        with suppress(redis_client.RedisError, OSError):
            _from_redis(families, time.time())
        yield from (family for family in families.values() if family.samples)


Families = dict[str, GaugeMetricFamily | CounterMetricFamily]
COUNTERS = frozenset({"llumdeck_instance_preemptions", "llumdeck_instance_generated_tokens"})
"""Exposed with ``_total`` behind the name."""


def _family(name: str, family: Family) -> GaugeMetricFamily | CounterMetricFamily:
    kind = CounterMetricFamily if name in COUNTERS else GaugeMetricFamily
    return kind(name, family.says, labels=family.labels)


def _from_rows(families: Families) -> None:
    counts = Counter(Instance.objects.order_by().values_list("pool__name", "state"))
    for (pool, state), count in counts.items():
        families["llumdeck_instances"].add_metric([pool, state], count)
    since = timezone.now() - RECENT
    ended = RequestMigration.objects.filter(finished_at__gte=since).order_by()
    for (rule, outcome), count in Counter(ended.values_list("rule", "state")).items():
        families["llumdeck_migrations_recent"].add_metric([rule, outcome], count)
    alerts = Alert.objects.filter(state__in=Alert.OPEN_STATES).order_by()
    for (severity, state), count in Counter(alerts.values_list("severity", "state")).items():
        families["llumdeck_alerts"].add_metric([severity, state], count)


def _from_redis(families: Families, now_s: float) -> None:
    rules = scheduling_class_rules()
    for item in read_statuses(now_s):
        _of_instance(families, item, rules)
    _of_gateways(families, [each for each in read_gateways() if now_s - each.reported_at_s < 10.0])
    loop = loop_status()
    if loop is not None:
        families["llumdeck_loop_tick_seconds"].add_metric([], loop.tick_ms / 1000)
        families["llumdeck_loop_silent_seconds"].add_metric([], max(0.0, now_s - loop.last_tick_at_s))


def _of_instance(families: Families, item: SeenStatus, rules: Any) -> None:
    status, blocks = item.status, max(1, item.status.total_blocks)
    name = status.instance_id
    families["llumdeck_instance_report_age_seconds"].add_metric([name], item.age_s)
    families["llumdeck_instance_used_share"].add_metric([name], status.used_blocks / blocks)
    families["llumdeck_instance_reserved_share"].add_metric([name], status.reserved_blocks / blocks)
    families["llumdeck_instance_migrations"].add_metric([name, "in"], status.migrations_in)
    families["llumdeck_instance_migrations"].add_metric([name, "out"], status.migrations_out)
    families["llumdeck_instance_requests"].add_metric([name, "running"], status.running)
    families["llumdeck_instance_requests"].add_metric([name, "waiting"], status.waiting)
    families["llumdeck_instance_preemptions"].add_metric([name], status.preemptions_total)
    families["llumdeck_instance_generated_tokens"].add_metric([name], status.tokens_total)
    cluster = to_cluster_snapshot([item], pool=status.pool, classes=rules, taken_at_s=status.reported_at_s)
    for snapshot in cluster.instances:
        value = freeness(snapshot, rules)
        if abs(value) < 1e12:
            families["llumdeck_instance_freeness_tokens"].add_metric([name], value)


def _of_gateways(families: Families, gateways: list[GatewayStatus]) -> None:
    worst: dict[tuple[str, str], float] = {}
    met: dict[str, list[float]] = {}
    for status in gateways:
        families["llumdeck_fleet_queued_requests"].add_metric([status.gateway_id], status.queued)
        families["llumdeck_gateway_open_streams"].add_metric([status.gateway_id], status.open_streams)
        for each in status.per_class:
            for family, value in (("ttft", each.ttft_p99_ms), ("tpot", each.tpot_p99_ms)):
                if value is not None:
                    key = (f"llumdeck_class_{family}_p99_seconds", each.slo_class)
                    worst[key] = max(worst.get(key, 0.0), value / 1000)
            if each.ttft_attained is not None and each.requests:
                sums = met.setdefault(each.slo_class, [0.0, 0.0])
                sums[0] += each.ttft_attained * each.requests
                sums[1] += each.requests
    for (family, slo_class), value in worst.items():
        families[family].add_metric([slo_class], value)
    for slo_class, (kept, requests) in met.items():
        families["llumdeck_class_attainment_ratio"].add_metric([slo_class], kept / requests)


class Metrics(ConsoleView):
    """``/metrics``: the fleet for Prometheus; takes a machine token with the scope ``metrics``."""

    def get(self, request: Request) -> HttpResponse:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(FleetCollector())
        return HttpResponse(generate_latest(registry), content_type=instance_metrics.CONTENT_TYPE)


class Targets(ConsoleView):
    """``/metrics/targets``: the gateways that Prometheus should scrape, as its HTTP service discovery."""

    def get(self, request: Request) -> Response:
        now_s = time.time()
        fresh = [each for each in read_gateways() if now_s - each.reported_at_s < 10.0]
        return Response(
            [
                {
                    "targets": [each.url.partition("://")[2].partition("/")[0]],
                    "labels": {"gateway": each.gateway_id, "pool": each.pool},
                }
                for each in fresh
            ]
        )


register()
urlpatterns: list[URLPattern] = [
    path("metrics", Metrics.as_view(), name="metrics"),
    path("metrics/targets", Targets.as_view(), name="metrics-targets"),
    *instance_metrics.urlpatterns,
]
