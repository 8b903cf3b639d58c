"""Which instances may be chosen at all, and why the others fell.

A filter is a question about one instance; its answer is "" (kept) or the reason
for people. ``keep`` asks them in order and returns ``(kept, why the others fell)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.load import demand_tokens
from controlplane.scheduling.snapshot import InstanceSnapshot, RequestProfile

Filter = Callable[[InstanceSnapshot], str]


def accepting(instance: InstanceSnapshot) -> str:
    """Draining or not accepting: no new work."""
    if instance.draining:
        return "draining"
    return "" if instance.accepting else "not_accepting"


def fresh(instance: InstanceSnapshot, staleness_limit_s: float) -> str:
    """A report older than the limit says nothing about now."""
    return "" if instance.age_s <= staleness_limit_s else "stale"


def serves_model(instance: InstanceSnapshot, served_model: str) -> str:
    """An empty name on either side means: whatever the pool serves."""
    if served_model and instance.served_model and instance.served_model != served_model:
        return "other_model"
    return ""


def large_enough(instance: InstanceSnapshot, tokens: int, watermark_share: float) -> str:
    """Could the request ever start here, were the instance empty?"""
    needed = demand_tokens(tokens, instance.block_size_tokens)
    return "" if needed <= instance.capacity_tokens * (1.0 - watermark_share) else "too_small"


def has_migration_slot(instance: InstanceSnapshot, slots: int | None = None) -> str:
    """Migrations in and out together are limited per instance."""
    limit = instance.migration_slots if slots is None else slots
    return "" if instance.migrations_in + instance.migrations_out < limit else "no_migration_slot"


def for_request(instance: InstanceSnapshot, request: RequestProfile, config: SchedulingConfig) -> str:
    """Why this instance may not take this request now, or ever; "" when it may."""
    rules = config.dispatch
    if instance.draining or not instance.accepting:
        return accepting(instance)
    if instance.age_s > rules.staleness_limit_s:
        return "stale"
    if request.served_model and instance.served_model:
        reason = serves_model(instance, request.served_model)
        if reason:
            return reason
    return large_enough(instance, request.prompt_tokens + request.generated_tokens, rules.watermark_share)


def keep(
    instances: Iterable[InstanceSnapshot], question: Filter
) -> tuple[list[InstanceSnapshot], dict[str, str]]:
    """``(kept, {instance_id: why it fell})``."""
    kept: list[InstanceSnapshot] = []
    fell: dict[str, str] = {}
    for instance in instances:
        reason = question(instance)
        if reason:
            fell[instance.instance_id] = reason
        else:
            kept.append(instance)
    return kept, fell
