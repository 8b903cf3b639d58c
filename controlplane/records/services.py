"""Writing history: finished requests in batches, audit entries one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import AuditAdded
from controlplane.records.models import AuditEntry, RequestRecord
from controlplane.records.origin import current_origin
from controlplane.records.types import FinishedRequest
from controlplane.records.usage import add_usage

MASK = "•••"
MASKED_KEYS = frozenset(
    {"password", "key", "raw_key", "key_hash", "secret", "token", "api_key", "authorization", "code"}
)
MAX_OUTCOME_LENGTH = 200


def record_requests(finished: Sequence[FinishedRequest]) -> int:
    """Store finished requests and add them to their day's usage, both or neither.

    One already stored (same ``request_id``) is left as it is and not counted again, so
    that a batch may be handed over twice. Returns how many were handed over.
    """
    with transaction.atomic():
        ids = [item.request_id for item in finished]
        known = set(RequestRecord.objects.filter(request_id__in=ids).values_list("request_id", flat=True))
        fresh = {item.request_id: item for item in finished if item.request_id not in known}
        RequestRecord.objects.bulk_create([_request_row(item) for item in fresh.values()])
        add_usage(fresh.values())
    return len(finished)


def audit(
    *,
    actor: str,
    action: str,
    object_type: str,
    object_id: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str = "",
    request_id: str = "",
    address: str | None = None,
    now: datetime | None = None,
) -> AuditEntry:
    """Append one entry (secrets masked) and tell the dashboards once it is committed.

    Request id and address are those of the call being served where none are given.
    """
    caller = current_origin()
    entry = AuditEntry.objects.create(
        at=now or timezone.now(),
        actor=actor,
        action=action,
        object_type=object_type,
        object_id=object_id,
        before=_mask(before or {}),
        after=_mask(after or {}),
        reason=reason[:500],
        request_id=request_id or caller.request_id,
        address=address or caller.address,
    )
    publish(
        AuditAdded.of(
            at=entry.at,
            entry_id=entry.pk,
            actor=actor,
            action=action,
            object_type=object_type,
            object_id=object_id,
            reason=entry.reason,
        )
    )
    return entry


def delete_requests_before(moment: datetime) -> int:
    """Retention: forget requests finished before ``moment``; returns how many."""
    deleted, _ = RequestRecord.objects.filter(finished_at__lt=moment).delete()
    return deleted


def _request_row(item: FinishedRequest) -> RequestRecord:
    return RequestRecord(
        request_id=item.request_id,
        tenant_id=item.tenant_id,
        key_id=item.key_id,
        slo_class_asked=item.slo_class_asked,
        slo_class_served=item.slo_class_served,
        class_rule=item.class_rule,
        model=item.model,
        arrived_at=item.arrived_at,
        first_token_at=item.first_token_at,
        finished_at=item.finished_at,
        prompt_tokens=item.prompt_tokens,
        cached_tokens=item.cached_tokens,
        output_tokens=item.output_tokens,
        instance_ids=list(item.instance_ids),
        dispatches=item.dispatches,
        moves=item.moves,
        recoveries=item.recoveries,
        outcome=item.outcome[:MAX_OUTCOME_LENGTH],
        queued_ms=item.queued_ms,
        ttft_ms=item.ttft_ms,
        tpot_ms=item.tpot_ms,
        end_to_end_ms=item.end_to_end_ms,
    )


def _mask(value: Any, name: str = "") -> Any:
    """The same data without secrets, however deep they lie."""
    if name.lower() in MASKED_KEYS and not isinstance(value, bool | None):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): _mask(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_mask(inner, name) for inner in value]
    return value
