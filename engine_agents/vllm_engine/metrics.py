"""vLLM's own metrics, kept beside the steps: its names, labels, bounds and words, from its own logger.

vLLM fills them in its server from what the engine tells with every step. Here the engine's
thread notes what happened, in a fraction of a microsecond per token, and vLLM's
``PrometheusStatLogger`` is given it when somebody collects. Two histograms get a value per
token or step (inter-token latency, tokens per step); they are counted here and put into its families.

Requests move: each instance counts what happened on it. A request that arrives with tokens has
no queue, prefill or first token here; it is counted as finished, with its whole latency, where it ends.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from vllm.config import VllmConfig
from vllm.v1.engine import EngineCoreEventType, EngineCoreOutput, EngineCoreOutputs
from vllm.v1.metrics.buckets import histogram_buckets
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import FinishedRequestStats, IterationStats, PrefixCacheStats, SchedulerStats

from engine_agents.engines.port import EngineLoad
from engine_agents.metric_messages import MetricFamily, MetricSeries
from engine_agents.vllm_engine.live import LiveRequest

GAPS = "vllm:inter_token_latency_seconds"
PER_STEP = "vllm:iteration_tokens_total"
PER_CLIENT_REQUEST = frozenset({"vllm:request_params_n", "vllm:request_max_num_generation_tokens"})
"""Of a client's request, which may be several of the engine's: known to the gateway only."""
MAX_PENDING = 2_000
"""Finished requests that wait for somebody to collect; then they are given to vLLM's logger at once."""


class Distribution:
    """A histogram that takes many equal values for the price of one."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = list(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def series(self, labels: list[str]) -> MetricSeries:
        return MetricSeries(labels, self.sum, list(accumulate(self.counts)))


class StepMetrics:
    """:meth:`step` on the engine's thread, :meth:`families` on any other."""

    def __init__(self, vllm_config: VllmConfig) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._logger = _logger_class(self._registry)(vllm_config)
        self._logger.log_metrics_info("cache_config", vllm_config.cache_config)
        bounds = vllm_config.observability_config.custom_histogram_buckets
        self._gaps = Distribution(histogram_buckets("inter_token_latency", overrides=bounds))
        self._step_tokens = Distribution(histogram_buckets("iteration_tokens", overrides=bounds))
        self._lock = threading.Lock()
        self._collecting = threading.Lock()
        self._preemptions = 0
        self._pending = IterationStats()
        self._prefix_cache = PrefixCacheStats()

    # ---- the engine's thread

    def step(self, outputs: Mapping[int, EngineCoreOutputs], live: Mapping[str, LiveRequest]) -> None:
        """Note a step's outputs, and take off them what only this is for."""
        now = time.monotonic()
        gaps: dict[float, int] = {}
        with self._lock:
            pending = self._pending
            before = pending.prompt_token_stats.computed + pending.num_generation_tokens
            for one in outputs.values():
                self._note_scheduler(one)
                for output in one.outputs:
                    self._note(output, live[output.request_id], now, gaps)
            for since, times in gaps.items():
                self._gaps.add(now - since, times)
            tokens = pending.prompt_token_stats.computed + pending.num_generation_tokens - before
            if tokens:
                self._step_tokens.add(tokens)
        if len(pending.finished_requests) > MAX_PENDING:
            self._flush(SchedulerStats(), self._preemptions)

    def _note_scheduler(self, outputs: EngineCoreOutputs) -> None:
        stats, outputs.scheduler_stats = outputs.scheduler_stats, None
        if stats is not None:
            self._prefix_cache.queries += stats.prefix_cache_stats.queries
            self._prefix_cache.hits += stats.prefix_cache_stats.hits

    def _note(self, output: EngineCoreOutput, live: LiveRequest, now: float, gaps: dict[float, int]) -> None:
        times, made = live.times, len(output.new_token_ids)
        if output.events is not None:
            for event in output.events:
                if event.type == EngineCoreEventType.QUEUED:
                    times.queued_s = event.timestamp
                elif event.type == EngineCoreEventType.SCHEDULED:
                    times.scheduled_s = times.scheduled_s or event.timestamp
                else:
                    times.preemptions += 1
            output.events = None
        if made:
            self._pending.num_generation_tokens += made
            times.generated_tokens += made
            if times.last_token_s:
                gaps[times.last_token_s] = gaps.get(times.last_token_s, 0) + 1
            else:
                self._note_first(output, live, now)
            times.last_token_s = now
        if output.finish_reason is not None:
            self._pending.finished_requests.append(_finished(output, live))

    def _note_first(self, output: EngineCoreOutput, live: LiveRequest, now: float) -> None:
        live.times.first_token_s = now
        if live.delivered_tokens:
            return
        live.times.from_prompt = True
        self._pending.time_to_first_tokens_iter.append(max(0.0, time.time() - live.arrived_at_s))
        if output.prefill_stats is not None:
            live.times.cached_tokens = output.prefill_stats.num_cached_tokens
            self._pending.prompt_token_stats.update_from_output(output.prefill_stats)

    # ---- any thread

    def families(self, load: EngineLoad, total_blocks: int, deferred: int) -> list[MetricFamily]:
        """All of them as of now, the instantaneous ones from ``load``."""
        state = SchedulerStats(
            num_running_reqs=load.running,
            num_waiting_reqs=max(0, load.waiting - deferred),
            num_skipped_waiting_reqs=deferred,
            kv_cache_usage=load.used_blocks / max(1, total_blocks),
        )
        with self._collecting:
            self._flush(state, load.preemptions_total)
            found = [_family(metric) for metric in self._registry.collect() if _told(metric)]
            ours = {GAPS: self._gaps, PER_STEP: self._step_tokens}
            for family in found:
                if family.name in ours:
                    family.series = [ours[family.name].series(each.labels) for each in family.series]
            return found

    def _flush(self, state: SchedulerStats, preemptions: int) -> None:
        """Give vLLM's logger what has been noted."""
        with self._lock:
            noted, self._pending = self._pending, IterationStats()
            state.prefix_cache_stats, self._prefix_cache = self._prefix_cache, PrefixCacheStats()
            noted.num_preempted_reqs, self._preemptions = preemptions - self._preemptions, preemptions
        self._logger.record(state, noted)


def _finished(output: EngineCoreOutput, live: LiveRequest) -> FinishedRequestStats:
    """Spans of time are those spent here; the latency is the client's, from arrival at the gateway."""
    times = live.times
    began_s = times.scheduled_s or times.first_token_s
    decode_s = times.last_token_s - times.first_token_s
    later_tokens = times.generated_tokens - 1
    return FinishedRequestStats(
        finish_reason=output.finish_reason,
        e2e_latency=max(0.0, time.time() - live.arrived_at_s),
        num_prompt_tokens=live.prompt_tokens,
        num_preemptions=times.preemptions,
        num_generation_tokens=times.generated_tokens,
        max_tokens_param=times.max_tokens,
        queued_time=max(0.0, times.scheduled_s - times.queued_s) if times.queued_s else 0.0,
        prefill_time=max(0.0, times.first_token_s - began_s) if times.from_prompt else 0.0,
        inference_time=max(0.0, times.last_token_s - began_s),
        decode_time=decode_s,
        mean_time_per_output_token=decode_s / later_tokens if later_tokens > 0 else 0.0,
        num_cached_tokens=times.cached_tokens if times.from_prompt else live.prompt_tokens,
    )


def _logger_class(registry: CollectorRegistry) -> type[PrometheusStatLogger]:
    """vLLM's logger with a registry of its own: the process's belongs to who embeds the engine."""

    class Logger(PrometheusStatLogger):  # type: ignore[misc]
        _gauge_cls = partial(Gauge, registry=registry)
        _counter_cls = partial(Counter, registry=registry)
        _histogram_cls = partial(Histogram, registry=registry)

    return Logger


def _told(metric: Metric) -> bool:
    return bool(metric.samples) and metric.name not in PER_CLIENT_REQUEST


def _family(metric: Metric) -> MetricFamily:
    if metric.type == "histogram":
        return _histogram(metric)
    value = f"{metric.name}_total" if metric.type == "counter" else metric.name
    samples = [each for each in metric.samples if each.name == value]
    names = list(samples[0].labels)
    series = [MetricSeries([each.labels[name] for name in names], each.value) for each in samples]
    return MetricFamily(metric.name, metric.type, metric.documentation, names, series)


def _histogram(metric: Metric) -> MetricFamily:
    """vLLM's histograms have one series each: one engine, one model."""
    buckets = [each for each in metric.samples if each.name.endswith("_bucket")]
    total = next(each.value for each in metric.samples if each.name.endswith("_sum"))
    labels = {name: value for name, value in buckets[0].labels.items() if name != "le"}
    bounds: list[Any] = [float(each.labels["le"]) for each in buckets[:-1]]
    series = MetricSeries(list(labels.values()), total, [int(each.value) for each in buckets])
    return MetricFamily(metric.name, "histogram", metric.documentation, list(labels), [series], bounds)
