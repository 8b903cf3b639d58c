"""An engine's own metrics on the wire: families of counters, gauges and histograms, without a registry.

Written to the key ``<prefix>metrics:<instance id>`` with a time to live, and turned into Prometheus' text by
who is asked for it: an agent has no door for scrapers, and a scrape takes nothing from its engine.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from engine_agents.messages import Message

METRICS_KEY = "metrics:"


class MetricSeries(msgspec.Struct, array_like=True):
    """One combination of labels; a histogram has ``counts`` (cumulative, per bound of its family) as well."""

    labels: list[str]
    value: float
    """Of a counter or gauge; the sum of a histogram."""
    counts: list[int] = []
    """The last one is that of all observations (``+Inf``)."""


class MetricFamily(msgspec.Struct, array_like=True):
    name: str
    """As the engine has it, ``vllm:num_preemptions``; counters without ``_total``."""
    kind: str
    """``counter``, ``gauge`` or ``histogram``."""
    says: str
    label_names: list[str]
    series: list[MetricSeries]
    bounds: list[float] = []
    """Upper bounds of a histogram's buckets but the last, ``+Inf``."""


class InstanceMetrics(Message):
    """What one engine and its agent have counted since their start."""

    instance_id: str
    incarnation: str
    taken_at_s: float
    """Agent's wall clock."""
    families: list[MetricFamily]
    agent_counts: dict[str, int] = {}
    """Of the agent itself, by name: refused links, stale epochs, outcomes that could not be told …"""


@runtime_checkable
class Measured(Protocol):
    """An engine with metrics of its own."""

    def metrics(self) -> list[MetricFamily]:
        """Any thread; costs milliseconds."""
