"""Reading what exists."""

from __future__ import annotations

from django.db.models import QuerySet

from controlplane.fleet.models import GatewayProcess, Instance, Pool


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


def accepting_wishes() -> dict[str, bool]:
    """Which instances are to accept work, by id. Cheap: read in every tick."""
    return dict(Instance.objects.order_by().values_list("instance_id", "accepting"))


def gateway_processes() -> QuerySet[GatewayProcess]:
    return GatewayProcess.objects.all()
