"""What tenants used, day by day: kept as finished requests are stored, read for bills and charts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, F, Q, QuerySet, Sum

from controlplane.records.models import RequestRecord, UsageDay
from controlplane.records.types import FinishedRequest

SUMS = ("requests", "failed", "prompt_tokens", "cached_tokens", "output_tokens", "queue_seconds")
GROUPS = ("day", "tenant_id", "key_id", "slo_class", "model")
Group = tuple[date, int | None, int | None, str, str]


@dataclass(slots=True)
class Amounts:
    """Sums over some requests."""

    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    queue_seconds: float = 0.0

    def add(self, item: FinishedRequest) -> None:
        self.requests += 1
        self.failed += item.outcome.startswith("error:")
        self.prompt_tokens += item.prompt_tokens
        self.cached_tokens += item.cached_tokens
        self.output_tokens += item.output_tokens
        self.queue_seconds += item.queued_ms / 1000


@dataclass(frozen=True, slots=True)
class Attainment:
    """How many requests of a tenant in a class kept the class's targets; those without a target kept it."""

    tenant_id: int | None
    slo_class: str
    requests: int
    ttft_met: int
    tpot_met: int


# ------------------------------------------------------------------ writing


def add_usage(finished: Iterable[FinishedRequest]) -> None:
    """Add requests to the days on which they finished (UTC). Call inside the transaction that stores them."""
    groups: dict[Group, Amounts] = {}
    for item in finished:
        day = item.finished_at.astimezone(UTC).date()
        group = (day, item.tenant_id, item.key_id, item.slo_class_served, item.model)
        groups.setdefault(group, Amounts()).add(item)
    # One order for all writers, so that two of them never wait for each other's rows.
    for group in sorted(groups, key=repr):
        _add(group, groups[group])


def delete_usage_before(day: date) -> int:
    """Retention: forget days before ``day``; returns how many rows."""
    return UsageDay.objects.filter(day__lt=day).delete()[0]


def _add(group: Group, amounts: Amounts) -> None:
    subject = hashlib.sha256(repr(group).encode()).hexdigest()
    values = {each.name: getattr(amounts, each.name) for each in fields(amounts)}
    increments = {name: F(name) + value for name, value in values.items()}
    if UsageDay.objects.filter(subject=subject).update(**increments):
        return
    try:
        with transaction.atomic():
            UsageDay.objects.create(subject=subject, **dict(zip(GROUPS, group, strict=True)), **values)
    except IntegrityError:
        # Another gateway made the day's row meanwhile.
        UsageDay.objects.filter(subject=subject).update(**increments)


# ------------------------------------------------------------------ reading


def usage(
    *,
    since: date | None = None,
    until: date | None = None,
    tenant_id: int | None = None,
    key_id: int | None = None,
    slo_class: str = "",
) -> QuerySet[UsageDay]:
    """Rows per day, tenant, key, class and model, newest first; ``until`` is included."""
    rows = UsageDay.objects.all()
    if since is not None:
        rows = rows.filter(day__gte=since)
    if until is not None:
        rows = rows.filter(day__lte=until)
    if tenant_id is not None:
        rows = rows.filter(tenant_id=tenant_id)
    if key_id is not None:
        rows = rows.filter(key_id=key_id)
    return rows.filter(slo_class=slo_class) if slo_class else rows


def usage_by(rows: QuerySet[UsageDay], groups: Sequence[str]) -> list[dict[str, Any]]:
    """Sums by any of :data:`GROUPS`. Raises ``ValueError`` for another name."""
    for name in groups:
        if name not in GROUPS:
            raise ValueError(f"usage cannot be grouped by {name!r}; by: {', '.join(GROUPS)}")
    sums = {f"total_{name}": Sum(name) for name in SUMS}
    found = rows.order_by(*groups).values(*groups).annotate(**sums)
    return [{name.removeprefix("total_"): value for name, value in row.items()} for row in found]


def usage_csv(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The rows of :func:`usage_by` as lines of CSV with a heading, safe for spreadsheets."""
    heading: list[str] = []
    for row in rows:
        if not heading:
            heading = list(row)
            yield _csv_line(heading)
        yield _csv_line([row[name] for name in heading])


def usage_json(rows: Iterable[dict[str, Any]]) -> str:
    """The same as one JSON array."""
    return json.dumps(list(rows), default=str, indent=1)


def attainment(since: datetime, targets: dict[str, tuple[int | None, int | None]]) -> list[Attainment]:
    """Per tenant and class, who kept ``targets`` (class: TTFT, TPOT in ms) of what finished since then.

    Requests that the client gave up are not counted; those that failed kept nothing.
    """
    failed = Q(outcome__startswith="error:")
    counted = RequestRecord.objects.filter(finished_at__gte=since).exclude(outcome="abort").order_by()
    ttft_met = tpot_met = Q(pk__in=[])
    for name, (ttft_ms, tpot_ms) in targets.items():
        mine = Q(slo_class_served=name) & ~failed
        ttft_met |= mine & (Q(ttft_ms__lte=ttft_ms) if ttft_ms is not None else Q())
        tpot_met |= mine & (Q(tpot_ms__lte=tpot_ms) | Q(tpot_ms__isnull=True) if tpot_ms is not None else Q())
    rows = counted.values_list("tenant_id", "slo_class_served").annotate(
        counted=Count("id"),
        kept_ttft=Count("id", filter=ttft_met),
        kept_tpot=Count("id", filter=tpot_met),
    )
    return [Attainment(*row) for row in rows]


def _csv_line(values: Iterable[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is quoted as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
