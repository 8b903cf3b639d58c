"""Reading history."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet

from controlplane.records.models import AuditEntry, RequestRecord


def finished_requests(
    *, since: datetime | None = None, tenant_id: int | None = None, slo_class: str = ""
) -> QuerySet[RequestRecord]:
    """Newest first, narrowed by what is given."""
    rows = RequestRecord.objects.all()
    if since is not None:
        rows = rows.filter(finished_at__gte=since)
    if tenant_id is not None:
        rows = rows.filter(tenant_id=tenant_id)
    if slo_class:
        rows = rows.filter(slo_class_served=slo_class)
    return rows


def audit_entries(*, object_type: str = "", object_id: str = "") -> QuerySet[AuditEntry]:
    """Newest first, narrowed by what is given."""
    rows = AuditEntry.objects.all()
    if object_type:
        rows = rows.filter(object_type=object_type)
    if object_id:
        rows = rows.filter(object_id=object_id)
    return rows
