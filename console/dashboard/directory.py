"""What the database adds to the live page: rows of instances, classes, tenants, and old moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import close_old_connections

from console.dashboard.shapes import ClassRow, InstanceRow, stage_shape
from controlplane.alerts.models import Alert
from controlplane.fleet.models import Instance
from controlplane.rebalancing.models import RequestMigration
from controlplane.tenancy.models import SLOClass, Tenant

Json = dict[str, Any]

SEEDED_MIGRATIONS = 50
MOST_FIRING = 50
SEVERITIES = ("critical", "warning", "info")
GONE_STATES = (Instance.State.STOPPED,)
INSTANCE_FIELDS = (
    *("instance_id", "pool__name", "state", "accepting", "cause"),
    *("changed_at", "pool__engine", "pool__served_model"),
)
"""Only these, and no objects: at every look all instances are read."""


@dataclass(frozen=True, slots=True)
class Directory:
    instances: dict[str, InstanceRow]
    stopped: frozenset[str]
    """Instances that were ended on purpose: their last reports are not shown."""
    classes: list[ClassRow]
    tenants: list[str]
    """Slugs in order of creation: the order gives each its colour."""
    migrations: list[Json]
    """The newest final ones."""
    firing: list[Json] = field(default_factory=list)
    """Alerts that fire now, worst first."""


def read_directory() -> Directory:
    """Five queries, whatever the size of the fleet. Raises ``DatabaseError``."""
    close_old_connections()
    rows = [_instance(*values) for values in Instance.objects.values_list(*INSTANCE_FIELDS)]
    return Directory(
        instances={row.instance_id: row for row in rows if row.state not in GONE_STATES},
        stopped=frozenset(row.instance_id for row in rows if row.state in GONE_STATES),
        classes=[_slo_class(row) for row in SLOClass.objects.all()],
        tenants=list(Tenant.objects.order_by("created_at", "pk").values_list("slug", flat=True)),
        migrations=[migration_row_shape(row) for row in _recent_final()],
        firing=[_firing(row) for row in _firing_alerts()],
    )


def _instance(
    instance_id: str,
    pool: str,
    state: str,
    accepting: bool,
    cause: str,
    changed_at: datetime,
    engine: str,
    served_model: str,
) -> InstanceRow:
    return InstanceRow(
        instance_id, pool, state, accepting, cause, changed_at.timestamp(), engine, served_model
    )


def _slo_class(row: SLOClass) -> ClassRow:
    return ClassRow(
        name=row.name,
        rank=row.rank,
        ttft_target_ms=row.ttft_target_ms,
        tpot_target_ms=row.tpot_target_ms,
        target_load_tokens=row.target_load_tokens,
    )


def _firing_alerts() -> list[Alert]:
    """Worst first; a flood is cut, the page asks the API for the rest."""
    rows = Alert.objects.filter(state=Alert.State.FIRING).select_related("rule").order_by("-started_at")
    found = list(rows[:MOST_FIRING])
    return sorted(found, key=lambda row: SEVERITIES.index(row.severity) if row.severity in SEVERITIES else 9)


def _firing(row: Alert) -> Json:
    return {
        "id": row.pk,
        "rule": row.rule.name,
        "severity": row.severity,
        "subject": row.subject,
        "text": row.summary,
        "since": row.started_at.timestamp(),
        "acknowledged_by": row.acknowledged_by,
    }


def _recent_final() -> list[RequestMigration]:
    final = RequestMigration.objects.filter(state__in=RequestMigration.FINAL_STATES)
    return list(final.order_by("-started_at", "-pk")[:SEEDED_MIGRATIONS])


def migration_row_shape(row: RequestMigration) -> Json:
    """A row in the shape of the live protocol."""
    return {
        "id": row.migration_id,
        "request_id": row.request_id,
        "source": row.source,
        "destination": row.destination,
        "rule": row.rule,
        "why": row.why,
        "slo_class": row.slo_class,
        "tenant": row.tenant,
        "state": row.state,
        "reason": row.reason,
        "stages": [stage_shape(stage) for stage in row.stages],
        "downtime_ms": None if row.downtime_ms is None else round(row.downtime_ms, 1),
        "tokens_at_start": row.tokens_at_start or None,
        "tokens_moved": row.tokens_moved or None,
        "started_at": row.started_at.timestamp(),
        "updated_at": _seconds(row.finished_at) or row.started_at.timestamp(),
        "ended_at": _seconds(row.finished_at),
        "actor": row.requested_by,
    }


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
