"""A look at every pool each ten seconds, for the charts of hours, days and months."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import inf

from django.db.models import Count, Q

from controlplane.fleet.live_status import SeenStatus, read_fleet, to_cluster_snapshot
from controlplane.fleet.models import Pool
from controlplane.rebalancing import selectors
from controlplane.rebalancing.models import RequestMigration
from controlplane.records import history
from controlplane.records.history import PoolSample
from controlplane.scheduling.load import freeness
from engine_agents.messages import GatewayStatus

State = RequestMigration.State


class PreemptionCounter:
    """Preemptions since the last look: agents report totals, which begin anew with an incarnation."""

    def __init__(self) -> None:
        self._totals: dict[str, tuple[str, int]] = {}
        """By instance, of the incarnation that reported last."""

    def since_last(self, seen: Sequence[SeenStatus]) -> int:
        new = 0
        for status, _ in seen:
            incarnation, known = self._totals.get(status.instance_id, (None, 0))
            self._totals[status.instance_id] = (status.incarnation, status.preemptions_total)
            new += max(0, status.preemptions_total - known) if incarnation == status.incarnation else 0
        return new


def sample_pools(*, counters: dict[str, PreemptionCounter], stale_s: float, now: datetime) -> int:
    """Store how every pool fares now; a pool of which nobody reports gets no row. Raises ``RedisError``."""
    seen, gateways = read_fleet(now.timestamp())
    fresh = [item for item in seen if item.age_s <= stale_s]
    samples = []
    for pool in Pool.objects.order_by("name"):
        mine = [item for item in fresh if item.status.pool == pool.name]
        if mine:
            counter = counters.setdefault(pool.name, PreemptionCounter())
            samples.append(_sample(pool.name, mine, gateways, counter, now))
    return history.record_pools(samples, at=now)


def _sample(
    pool: str,
    seen: Sequence[SeenStatus],
    gateways: Sequence[GatewayStatus],
    counter: PreemptionCounter,
    now: datetime,
) -> PoolSample:
    snapshot = to_cluster_snapshot(seen, pool=pool, classes={}, taken_at_s=now.timestamp())
    rules = selectors.scheduling_class_rules()
    capacity = sum(each.capacity_tokens for each in snapshot.instances)
    used = sum(each.used_tokens for each in snapshot.instances)
    free = [value for each in snapshot.instances if (value := freeness(each, rules)) > -inf]
    done, failed = _migrations([item.status.instance_id for item in seen], now)
    return PoolSample(
        pool=pool,
        instances=len(snapshot.instances),
        running=sum(each.running for each in snapshot.instances),
        waiting=sum(each.waiting for each in snapshot.instances),
        queued=sum(status.queued for status in gateways if status.pool == pool),
        used_share=used / capacity if capacity else None,
        freeness_tokens=sum(free) / len(free) if free else None,
        tokens_per_s=sum(item.status.tokens_per_s for item in seen),
        preemptions=counter.since_last(seen),
        migrations_done=done,
        migrations_failed=failed,
    )


def _migrations(sources: Sequence[str], now: datetime) -> tuple[int, int]:
    """Moves that ended in the bucket before this one's end."""
    begin = history.bucket_start(now, history.FINE_S) - timedelta(seconds=history.FINE_S)
    found = RequestMigration.objects.filter(
        source__in=sources, finished_at__gte=begin, finished_at__lt=begin + timedelta(seconds=history.FINE_S)
    ).aggregate(
        done=Count("id", filter=Q(state=State.DONE)),
        failed=Count("id", filter=Q(state__in=[State.ABORTED, State.REFUSED])),
    )
    return found["done"], found["failed"]
