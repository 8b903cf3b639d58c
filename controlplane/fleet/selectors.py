"""Reading what exists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.db.models import QuerySet

from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import GatewayProcess, Instance, Pool
from controlplane.fleet.reports import Limits


def pools() -> QuerySet[Pool]:
    return Pool.objects.all()


def instances(*, pool: str = "", state: str = "") -> QuerySet[Instance]:
    """With their pools, by id, narrowed by what is given."""
    rows = Instance.objects.select_related("pool")
    if pool:
        rows = rows.filter(pool__name=pool)
    if state:
        rows = rows.filter(state=state)
    return rows


def instance_by_id(instance_id: str) -> Instance:
    """Raises ``Instance.DoesNotExist``."""
    return Instance.objects.select_related("pool").get(instance_id=instance_id)


@dataclass(frozen=True, slots=True)
class WantedFleet:
    """What the rows want, in the little that every tick needs."""

    accepting: Mapping[str, bool] = field(default_factory=dict)
    """Instance -> whether it is to take work."""
    starting: Mapping[int, int] = field(default_factory=dict)
    """Pool -> how many of its instances are on their way up."""

    def draining(self) -> frozenset[str]:
        return frozenset(name for name, accepting in self.accepting.items() if not accepting)


STARTING_STATES = frozenset({Instance.State.PENDING, Instance.State.STARTING, Instance.State.WARMING})


def wanted_fleet() -> WantedFleet:
    """One cheap query."""
    rows = list(Instance.objects.order_by().values_list("instance_id", "accepting", "state", "pool_id"))
    return WantedFleet(
        accepting={name: accepting for name, accepting, _, _ in rows},
        starting=Counter(pool for _, _, state, pool in rows if state in STARTING_STATES),
    )


def unsettled_instance_ids(reports: Mapping[str, SeenStatus], limits: Limits) -> list[str]:
    """All but those that are ready, wanted and freshly reported so: a thousand rows in one look."""
    rows = Instance.objects.order_by().values_list("instance_id", "state", "accepting", "incarnation")
    return [
        name
        for name, state, accepting, incarnation in rows
        if state != Instance.State.READY
        or not accepting
        or (seen := reports.get(name)) is None
        or seen.age_s > limits.stale_s
        or seen.status.state != "ready"
        or seen.status.incarnation != incarnation
    ]


def gateway_processes() -> QuerySet[GatewayProcess]:
    return GatewayProcess.objects.all()
