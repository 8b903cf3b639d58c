"""The facts that alert rules judge, read from all parts of the fleet."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from controlplane import redis_client
from controlplane.alerts.facts import ClassWindow, Facts, InstanceFact, LimitFact
from controlplane.alerts.selectors import burn_windows
from controlplane.fleet.live_status import SeenStatus, read_gateways, read_statuses
from controlplane.fleet.models import Instance
from controlplane.fleet.selectors import instances
from controlplane.rebalancing.selectors import loop_status
from controlplane.records.history import preemptions_since
from controlplane.records.usage import attainment
from controlplane.tenancy.limit_use import limit_use
from controlplane.tenancy.selectors import limit_terms, quotas, slo_classes

PREEMPTION_WINDOW = timedelta(minutes=2)
GATEWAY_FRESH_S = 10.0


def read_facts(*, now: datetime, wall_s: float) -> Facts:
    """One look at everything; what needs Redis is left out, and said so, while it is away."""
    windows = _windows(now)
    preemptions = _preemptions(now)
    try:
        seen = {item.status.instance_id: item for item in read_statuses(wall_s)}
        loop = loop_status()
        waits = _longest_waits(wall_s)
    except (redis_client.RedisError, OSError):
        facts = [_instance(row, None) for row in instances()]
        return Facts(instances=facts, windows=windows, preemptions_per_minute=preemptions, blind=True)
    return Facts(
        instances=[_instance(row, seen.get(row.instance_id)) for row in instances()],
        windows=windows,
        longest_wait_s=waits,
        preemptions_per_minute=preemptions,
        limits=_limits(),
        loop_silent_s=None if loop is None else max(0.0, wall_s - loop.last_tick_at_s),
    )


def _limits() -> list[LimitFact]:
    """Limits that are counted in common, of tenants, keys and classes."""
    found = limit_use([limit_terms(row) for row in quotas()])
    return [
        LimitFact(each.subject, each.limit_name, each.used, each.limit)
        for each in found
        if each.used is not None
    ]


def _instance(row: Instance, seen: SeenStatus | None) -> InstanceFact:
    if seen is None:
        return InstanceFact(row.instance_id, row.pool.name, row.state, row.cause)
    status, block = seen.status, seen.status.block_size_tokens
    free = max(0, status.total_blocks - status.used_blocks - status.reserved_blocks)
    return InstanceFact(
        instance_id=row.instance_id,
        pool=row.pool.name,
        state=row.state,
        cause=row.cause,
        age_s=seen.age_s,
        capacity_tokens=status.total_blocks * block,
        free_tokens=free * block,
        head_of_line_tokens=status.head_of_line_blocks * block,
        preemptions_total=status.preemptions_total,
    )


def _windows(now: datetime) -> dict[tuple[str, int], ClassWindow]:
    targets = {row.name: (row.ttft_target_ms, row.tpot_target_ms) for row in slo_classes()}
    found: dict[tuple[str, int], ClassWindow] = {}
    for minutes in burn_windows():
        totals: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for row in attainment(now - timedelta(minutes=minutes), targets):
            totals[row.slo_class][0] += row.requests
            totals[row.slo_class][1] += row.requests - min(row.ttft_met, row.tpot_met)
        found |= {(name, minutes): ClassWindow(*counts) for name, counts in totals.items()}
    return found


def _preemptions(now: datetime) -> dict[str, float]:
    per_pool = preemptions_since(now - PREEMPTION_WINDOW)
    return {pool: count / (PREEMPTION_WINDOW.total_seconds() / 60) for pool, count in per_pool.items()}


def _longest_waits(wall_s: float) -> dict[str, float]:
    found: dict[str, float] = {}
    for gateway in read_gateways():
        if wall_s - gateway.reported_at_s < GATEWAY_FRESH_S:
            for waiter in gateway.waiters:
                found[waiter.slo_class] = max(found.get(waiter.slo_class, 0.0), waiter.waiting_s)
    return found
