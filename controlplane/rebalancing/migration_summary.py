"""Migrations of a span of time in numbers: between whom, by which rule, why stopped, how long paused."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from controlplane.rebalancing.models import RequestMigration

MAX_SAMPLED = 10_000
"""Stages are JSON: of the newest done moves only, so that a look at a year costs what one at a day does."""
MAX_DOWNTIMES = 2_000
MAX_PAIRS = 200
MAX_REASONS = 50
MAX_DISTINCT_REASONS = 5_000

DONE = Count("id", filter=Q(state=RequestMigration.State.DONE))
STOPPED = Count("id", filter=Q(state__in=RequestMigration.STOPPED_STATES))


def summarise_migrations(
    rows: QuerySet[RequestMigration], *, since: datetime, until: datetime
) -> dict[str, Any]:
    """Of those that began from ``since`` to before ``until``. Four queries, whatever their number."""
    rows = rows.filter(started_at__gte=since, started_at__lt=until).order_by()
    sample = _sample(rows)
    pairs = _pairs(rows, sample)
    return {
        "since": since,
        "until": until,
        **{name: sum(pair[name] for pair in pairs) for name in ("total", "done", "stopped", "tokens_moved")},
        "bytes": sum(_bytes(stages) for *_, stages in sample),
        "sampled": len(sample),
        "downtime_ms": _downtimes([ms for _, _, ms, _ in sample]),
        "pairs": pairs[:MAX_PAIRS],
        "rules": list(
            rows.values("rule")
            .annotate(total=Count("id"), done=DONE, stopped=STOPPED)
            .order_by("-total", "rule")
        ),
        "reasons": _reasons(rows),
    }


Sampled = tuple[str, str, float | None, Any]


def _sample(rows: QuerySet[RequestMigration]) -> list[Sampled]:
    done = rows.filter(state=RequestMigration.State.DONE).order_by("-id")
    return list(done.values_list("source", "destination", "downtime_ms", "stages")[:MAX_SAMPLED])


def _pairs(rows: QuerySet[RequestMigration], sample: Sequence[Sampled]) -> list[dict[str, Any]]:
    pauses: dict[tuple[str, str], list[float]] = {}
    for source, destination, ms, _ in sample:
        if ms is not None:
            pauses.setdefault((source, destination), []).append(ms)
    counted = (
        rows.values("source", "destination")
        .annotate(total=Count("id"), done=DONE, stopped=STOPPED, tokens_moved=Sum("tokens_moved"))
        .order_by("-total", "source", "destination")
    )
    return [
        {
            **pair,
            "downtime_p50_ms": percentile(pauses.get((pair["source"], pair["destination"]), ()), 0.5),
            "downtime_p99_ms": percentile(pauses.get((pair["source"], pair["destination"]), ()), 0.99),
        }
        for pair in counted
    ]


def _downtimes(found: Iterable[float | None]) -> dict[str, Any]:
    values = [ms for ms in found if ms is not None]
    return {
        "p50": percentile(values, 0.5),
        "p99": percentile(values, 0.99),
        "max": max(values, default=None),
        "values_ms": values[:MAX_DOWNTIMES],
    }


def _reasons(rows: QuerySet[RequestMigration]) -> list[dict[str, Any]]:
    stopped = rows.filter(state__in=RequestMigration.STOPPED_STATES)
    counts: Counter[str] = Counter()
    grouped = stopped.values("reason").annotate(total=Count("id")).order_by("-total", "reason")
    for row in grouped[:MAX_DISTINCT_REASONS]:
        counts[kind_of_reason(row["reason"])] += row["total"]
    return [{"reason": reason, "total": total} for reason, total in counts.most_common(MAX_REASONS)]


def kind_of_reason(reason: str) -> str:
    """Without what differs from case to case: ``no room for 512 tokens`` -> ``no room for … tokens``."""
    return re.sub(r"(?<![A-Za-z])\d[\d.,]*", "…", reason).strip() or "not told"


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that ``share`` of them do not exceed (nearest rank); ``None`` of nothing."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else None


def _bytes(stages: Any) -> int:
    return sum(int(stage.get("bytes", 0)) for stage in stages if isinstance(stage, dict))
