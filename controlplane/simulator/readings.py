"""Named numbers read out of a run, for tables and comparisons."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.simulator.metrics import RunMetrics

Reading = Callable[[RunMetrics], float]

SERVING: dict[str, Reading] = {
    "prefill_p99_s": lambda run: run.service.all.prefill_s.p99,
    "prefill_mean_s": lambda run: run.service.all.prefill_s.mean,
    "request_p99_s": lambda run: run.service.all.request_s.p99,
    "request_mean_s": lambda run: run.service.all.request_s.mean,
    "decode_p99_s": lambda run: run.service.all.decode_s.p99,
    "decode_mean_s": lambda run: run.service.all.decode_s.mean,
    "preemption_loss_s": lambda run: run.service.all.preemption_loss_mean_s,
    "long_prompt_prefill_p99_s": lambda run: run.service.long_prompt_prefill_p99_s,
    "longest_wait_s": lambda run: run.service.longest_wait_s,
}
"""Times in seconds, less is better; the first seven have the names of the paper's curves."""

FLEET: dict[str, Reading] = {
    "preemptions": lambda run: run.service.all.preemptions,
    "fragmentation_percent": lambda run: 100.0 * run.fragmentation_mean,
    "memory_used_percent": lambda run: 100.0 * run.used_share_mean,
    "slo_attained_percent": lambda run: 100.0 * run.service.all.slo_attainment,
    "goodput_per_s": lambda run: run.service.all.goodput_per_s,
    "migrations": lambda run: run.migrations_done,
    "migrations_aborted": lambda run: run.migrations_aborted,
    "downtime_p99_s": lambda run: run.service.downtime_s.p99,
    "instances": lambda run: run.instances_mean,
    "instance_hours": lambda run: run.instance_seconds / 3600.0,
    "rejected": lambda run: run.rejected,
}
"""What the fleet did for it."""
