"""Is the fleet too small or too large? Keep the mean freeness within a band.

Source: Llumnix (OSDI'24), section 4.4: add instances while the mean freeness is below the
band, drain the instance with the fewest running requests while it is above. A pending
scale-down is cancelled before an instance is started; what is on its way up counts
as if it were here, so that one shortage is not answered twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import ScaleDown, ScaleUp, Undrain
from controlplane.scheduling.load import batch_size, freeness
from controlplane.scheduling.snapshot import ClusterSnapshot, InstanceSnapshot

ScalingDecision = ScaleUp | ScaleDown | Undrain
TIMES = ("looked_at_s", "changed_at_s")


@dataclass(frozen=True, slots=True)
class ScalingState:
    """Times of the driver's clock; minus infinity stands for never."""

    looked_at_s: float = -math.inf
    changed_at_s: float = -math.inf
    """Of the last change in either direction."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``None`` stands for never."""
        return {name: getattr(self, name) if math.isfinite(getattr(self, name)) else None for name in TIMES}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`."""
        return cls(*(-math.inf if data.get(name) is None else data[name] for name in TIMES))


def mean_freeness(snapshot: ClusterSnapshot, active: list[InstanceSnapshot]) -> float:
    """Mean over active instances, in tokens per request; the fleet's own queue is spread over them.

    An instance on its way up counts with all its memory free.
    """
    if not active:
        return -math.inf
    queued = snapshot.queue_tokens / len(active)
    total = sum(freeness(each, snapshot.classes) - queued / batch_size(each) for each in active)
    fresh = snapshot.starting * _typical_capacity(active)
    return (total + fresh) / (len(active) + snapshot.starting)


def _typical_capacity(active: list[InstanceSnapshot]) -> float:
    return sum(each.capacity_tokens for each in active) / len(active)


def plan(
    snapshot: ClusterSnapshot, state: ScalingState, config: SchedulingConfig
) -> tuple[tuple[ScalingDecision, ...], ScalingState]:
    """At most one kind of change per look and per cool-down; between two looks nothing."""
    rules, now = config.scaling, snapshot.taken_at_s
    if not rules.enabled or now - state.looked_at_s < rules.interval_s:
        return (), state
    active = [each for each in snapshot.instances if not each.draining]
    value = mean_freeness(snapshot, active)
    present = len(active) + snapshot.starting
    looked = replace(state, looked_at_s=now)
    if value < rules.low_freeness_tokens or present < rules.min_instances:
        if now - state.changed_at_s < rules.up_cooldown_s and present >= rules.min_instances:
            return (), looked
        decisions = _grow(snapshot, active, value, config)
        return decisions, ScalingState(now, now) if decisions else looked
    quiet = now - state.changed_at_s >= rules.cooldown_s and not snapshot.starting
    if value > rules.high_freeness_tokens and present > rules.min_instances and quiet:
        decisions = _shrink(snapshot, active, value, config)
        return decisions, ScalingState(now, now) if decisions else looked
    return (), looked


def _grow(
    snapshot: ClusterSnapshot, active: list[InstanceSnapshot], value: float, config: SchedulingConfig
) -> tuple[ScalingDecision, ...]:
    rules = config.scaling
    present = len(active) + snapshot.starting
    wanted = min(
        max(1, rules.min_instances - present, _missing(active, value, config)), rules.max_instances - present
    )
    if wanted <= 0:
        return ()
    reason = f"mean freeness {value:.0f} below {rules.low_freeness_tokens:.0f} tokens per request"
    draining = sorted(
        (each for each in snapshot.instances if each.draining),
        key=lambda each: (-each.running, each.instance_id),
    )
    kept = tuple(Undrain(each.instance_id, reason) for each in draining[:wanted])
    rest = wanted - len(kept)
    return (*kept, ScaleUp(rest, reason)) if rest else kept


def _missing(active: list[InstanceSnapshot], value: float, config: SchedulingConfig) -> int:
    """Empty instances until the requests of today, spread evenly, would have the low mark."""
    if not active or not math.isfinite(value):
        return 1
    batch = sum(batch_size(each) for each in active)
    lacking = (config.scaling.low_freeness_tokens - value) * batch
    return math.ceil(lacking / _typical_capacity(active))


def _shrink(
    snapshot: ClusterSnapshot, active: list[InstanceSnapshot], value: float, config: SchedulingConfig
) -> tuple[ScalingDecision, ...]:
    """Drain the one with the fewest running requests, unless the others would then be too full."""
    victim = min(active, key=lambda each: (each.running, each.instance_id))
    others = [each for each in active if each is not victim]
    held = victim.used_tokens + victim.reserved_tokens + victim.queued_tokens
    batch = sum(batch_size(each) for each in others) + victim.running
    free = sum(each.capacity_tokens - each.used_tokens - each.reserved_tokens for each in others)
    after = (free - held - snapshot.queue_tokens) / max(1, batch)
    if after < config.scaling.low_freeness_tokens:
        return ()
    reason = f"mean freeness {value:.0f} above {config.scaling.high_freeness_tokens:.0f} tokens per request"
    return (ScaleDown(victim.instance_id, reason),)
