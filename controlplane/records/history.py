"""How pools and classes fared, in buckets: ten seconds for hours, a minute for days, an hour for months.

Fine buckets are written as they end and deleted soon; coarse ones are made from the finer
and kept. Buckets that nobody wrote are gaps, never zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import models

from controlplane.records.models import LatencyHistory, PoolHistory, RequestRecord

FINE_S, MINUTE_S, HOUR_S = 10, 60, 3_600
KEEP = {FINE_S: timedelta(hours=6), MINUTE_S: timedelta(days=7), HOUR_S: timedelta(days=400)}
COARSER = {MINUTE_S: FINE_S, HOUR_S: MINUTE_S}
MAX_POINTS = 2_000
MAX_SAMPLES = 50_000

MEANS = ("instances", "running", "waiting", "queued", "used_share", "freeness_tokens", "tokens_per_s")
SUMS = ("preemptions", "migrations_done", "migrations_failed")


@dataclass(frozen=True, slots=True)
class PoolSample:
    """A pool over one fine bucket; ``None`` where nobody reported."""

    pool: str
    instances: float
    running: float
    waiting: float
    queued: float
    used_share: float | None
    freeness_tokens: float | None
    tokens_per_s: float
    preemptions: int
    migrations_done: int
    migrations_failed: int


def bucket_start(moment: datetime, resolution_s: int) -> datetime:
    """The beginning of the bucket that holds this moment."""
    seconds = int(moment.timestamp())
    return datetime.fromtimestamp(seconds - seconds % resolution_s, tz=UTC)


def record_pools(samples: Iterable[PoolSample], *, at: datetime) -> int:
    """Store the fine bucket that ``at`` lies in; one that is there already stays. One statement."""
    rows = [
        PoolHistory(resolution_s=FINE_S, at=bucket_start(at, FINE_S), **asdict(sample)) for sample in samples
    ]
    PoolHistory.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def roll_up(*, now: datetime) -> dict[str, int]:
    """Make the coarse buckets that have ended since, and forget what is too old; safe to repeat."""
    made = {"minutes": 0, "hours": 0, "latency": 0}
    for resolution_s, name in ((MINUTE_S, "minutes"), (HOUR_S, "hours")):
        made[name] = _roll_up_pools(resolution_s, now)
    made["latency"] = _roll_up_latency(now)
    _forget(now)
    return made


def pool_history(*, pool: str, since: datetime, until: datetime, points: int = 300) -> list[dict[str, Any]]:
    """Buckets of one pool, oldest first, at the finest resolution that needs no more than ``points``."""
    rows = PoolHistory.objects.filter(
        pool=pool, resolution_s=_resolution(since, until, points), at__gte=since, at__lt=until
    )
    return list(rows.order_by("at").values("at", "resolution_s", *MEANS, *SUMS)[:MAX_POINTS])


def preemptions_since(since: datetime) -> dict[str, int]:
    """Preemptions per pool in the finest buckets since then. One query."""
    rows = PoolHistory.objects.filter(resolution_s=FINE_S, at__gte=since).order_by()
    return dict(rows.values_list("pool").annotate(total=models.Sum("preemptions")))


def latency_history(
    *, slo_class: str, since: datetime, until: datetime, points: int = 300
) -> list[dict[str, Any]]:
    """Buckets of one SLO class, oldest first; a minute is the finest."""
    resolution_s = max(MINUTE_S, _resolution(since, until, points))
    rows = LatencyHistory.objects.filter(
        slo_class=slo_class, resolution_s=resolution_s, at__gte=since, at__lt=until
    )
    return list(rows.order_by("at").values("at", "resolution_s", *LATENCY)[:MAX_POINTS])


LATENCY = (
    "requests",
    "failed",
    "prompt_tokens",
    "output_tokens",
    "ttft_p50_ms",
    "ttft_p99_ms",
    "tpot_p50_ms",
    "tpot_p99_ms",
    "end_to_end_p99_ms",
)


def _resolution(since: datetime, until: datetime, points: int) -> int:
    span_s = (until - since).total_seconds()
    fits = [each for each in KEEP if span_s / each <= max(1, points)]
    return min(fits, default=HOUR_S)


def _roll_up_pools(resolution_s: int, now: datetime) -> int:
    """Every ended bucket since the last one made; the finer rows are read once."""
    finer_s = COARSER[resolution_s]
    end = bucket_start(now, resolution_s)
    rows = PoolHistory.objects.filter(resolution_s=finer_s, at__lt=end)
    if begin := _begin(PoolHistory, resolution_s):
        rows = rows.filter(at__gte=begin)
    groups: dict[tuple[str, datetime], list[PoolHistory]] = {}
    for row in rows.order_by("at"):
        groups.setdefault((row.pool, bucket_start(row.at, resolution_s)), []).append(row)
    made = [
        PoolHistory(resolution_s=resolution_s, pool=pool, at=at, **_together(found))
        for (pool, at), found in groups.items()
    ]
    PoolHistory.objects.bulk_create(made, ignore_conflicts=True)
    return len(made)


def _begin(model: type[models.Model], resolution_s: int) -> datetime | None:
    """Where the buckets made so far end; ``None`` before the first."""
    last = model._default_manager.filter(resolution_s=resolution_s).aggregate(last=models.Max("at"))["last"]
    return last + timedelta(seconds=resolution_s) if last else None


def _together(rows: Sequence[PoolHistory]) -> dict[str, Any]:
    means = {name: _mean([getattr(row, name) for row in rows]) for name in MEANS}
    return {**means, **{name: sum(getattr(row, name) for row in rows) for name in SUMS}}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _roll_up_latency(now: datetime) -> int:
    """Both resolutions from the requests themselves: percentiles cannot be made from percentiles."""
    made = 0
    for resolution_s in (MINUTE_S, HOUR_S):
        begin = _begin(LatencyHistory, resolution_s) or now - KEEP[FINE_S]
        end = bucket_start(now, resolution_s)
        groups: dict[tuple[str, datetime], list[RequestRecord]] = {}
        records = RequestRecord.objects.filter(finished_at__gte=begin, finished_at__lt=end)
        for record in records.order_by("finished_at")[:MAX_SAMPLES]:
            key = (record.slo_class_served, bucket_start(record.finished_at, resolution_s))
            groups.setdefault(key, []).append(record)
        rows = [
            LatencyHistory(resolution_s=resolution_s, slo_class=slo_class, at=at, **_latency(found))
            for (slo_class, at), found in groups.items()
        ]
        LatencyHistory.objects.bulk_create(rows, ignore_conflicts=True)
        made += len(rows)
    return made


def _latency(records: Sequence[RequestRecord]) -> Mapping[str, Any]:
    ttft = sorted(each.ttft_ms for each in records if each.ttft_ms is not None)
    tpot = sorted(each.tpot_ms for each in records if each.tpot_ms is not None)
    whole = sorted(each.end_to_end_ms for each in records if not each.failed)
    return {
        "requests": len(records),
        "failed": sum(each.failed for each in records),
        "prompt_tokens": sum(each.prompt_tokens for each in records),
        "output_tokens": sum(each.output_tokens for each in records),
        "ttft_p50_ms": percentile(ttft, 0.5),
        "ttft_p99_ms": percentile(ttft, 0.99),
        "tpot_p50_ms": percentile(tpot, 0.5),
        "tpot_p99_ms": percentile(tpot, 0.99),
        "end_to_end_p99_ms": percentile(whole, 0.99),
    }


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank of an ordered list; ``None`` of an empty one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _forget(now: datetime) -> None:
    for resolution_s, kept in KEEP.items():
        for model in (PoolHistory, LatencyHistory):
            model._default_manager.filter(resolution_s=resolution_s, at__lt=now - kept).delete()
