"""Rows brought to what agents and gateways report."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from django.db import transaction

from controlplane.fleet import selectors
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import GatewayProcess, Instance, InstanceTransition, ScalingRecord
from controlplane.fleet.reports import Limits, follow_report, follow_silence
from controlplane.fleet.services.rows import STATE_FIELDS, store
from engine_agents.messages import GatewayStatus

FORGET_GATEWAYS_AFTER = timedelta(days=1)
REPORTED_FIELDS = [
    *STATE_FIELDS,
    "incarnation",
    "engine_version",
    "host",
    "pid",
    "accepting",
    "when_drained",
]


@transaction.atomic
def sync_instances(
    seen: Iterable[SeenStatus], *, limits: Limits, listening_s: float, now: datetime
) -> list[Instance]:
    """Bring all rows to what agents report and store those that changed, in one statement.

    ``listening_s`` is how long the reader has been listening without a break: nobody
    is called silent for longer than that. Rows are locked
    between reading and writing, so that no wish is overwritten. Returns the changed rows.
    """
    reports = {item.status.instance_id: item for item in seen}
    changed: list[Instance] = []
    unsettled = selectors.unsettled_instance_ids(reports, limits)
    if not unsettled:
        return []
    for row in Instance.objects.select_for_update().filter(instance_id__in=unsettled):
        report = reports.get(row.instance_id)
        if report is None:
            news = follow_silence(row, silent_s=listening_s, limits=limits, now=now)
        else:
            news = follow_report(row, report, limits=limits, listening_s=listening_s, now=now)
        if news:
            changed.append(row)
    store(changed, REPORTED_FIELDS)
    return changed


@transaction.atomic
def sync_gateways(reported: Iterable[GatewayStatus], *, now: datetime) -> None:
    """Bring the rows of gateways to what they report; the long silent are forgotten. Two statements."""
    rows = [
        GatewayProcess(
            gateway_id=status.gateway_id,
            incarnation=status.incarnation,
            pool=status.pool,
            url=status.url,
            pid=status.pid,
            first_seen_at=now,
            last_seen_at=datetime.fromtimestamp(status.reported_at_s, tz=UTC),
        )
        for status in reported
    ]
    GatewayProcess.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["gateway_id"],
        update_fields=["incarnation", "pool", "url", "pid", "last_seen_at"],
    )
    GatewayProcess.objects.filter(last_seen_at__lt=now - FORGET_GATEWAYS_AFTER).delete()


def delete_history_before(moment: datetime) -> dict[str, int]:
    """Retention: forget transitions and decisions about sizes older than ``moment``; how many of each."""
    transitions, _ = InstanceTransition.objects.filter(at__lt=moment).delete()
    decisions, _ = ScalingRecord.objects.filter(at__lt=moment).delete()
    return {"transitions": transitions, "scaling": decisions}
