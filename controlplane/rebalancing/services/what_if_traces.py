"""Traces for what-if questions: taken from people with great care, or from the fleet's own records."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from datetime import datetime
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from controlplane.fleet.models import Pool
from controlplane.rebalancing import selectors
from controlplane.rebalancing.models import WhatIfTrace
from controlplane.records.models import RequestRecord
from controlplane.records.services import audit
from controlplane.simulator.importers import TraceError, read_trace
from controlplane.simulator.workloads import SimRequest, Workload

MAX_UPLOAD_BYTES = 2 * 2**20
MAX_ROWS = 20_000
MAX_DURATION_S = 86_400.0
MAX_TRACES_PER_PERSON = 20
MAX_NAME = 100
COMPRESSED = {
    b"PK": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
DEFAULT_CLASS = "standard"


class WhatIfError(ValueError):
    """A trace or a question that cannot be taken; ``field`` says which part."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class QuotaError(WhatIfError):
    """Nothing is wrong with it, but there is too much of it already."""

    status_code = 429
    """As HTTP says it."""


def upload_trace(*, name: str, content: bytes, actor: str, pool: Pool | None = None) -> WhatIfTrace:
    """Keep an uploaded CSV (as Azure's, BurstGPT's, or arrival, prompt, output[, class]).

    Only its numbers are kept, written anew. Raises :class:`WhatIfError` that names the
    line, and :class:`QuotaError`.
    """
    label = plain_name(name)
    _check_upload(content)
    return _keep(_parse(label, content), label, WhatIfTrace.Source.UPLOAD, actor, pool)


def record_trace(*, pool: Pool, since: datetime, until: datetime, actor: str, name: str = "") -> WhatIfTrace:
    """What the pool's model really served: arrivals, lengths and classes of finished requests, no text."""
    if until <= since:
        raise WhatIfError("until: must be after since", "until")
    rows = list(
        RequestRecord.objects.filter(
            model=pool.served_model,
            arrived_at__gte=since,
            arrived_at__lt=until,
            prompt_tokens__gt=0,
            output_tokens__gt=0,
        )
        .order_by("arrived_at", "id")
        .values_list("arrived_at", "prompt_tokens", "output_tokens", "slo_class_served")[:MAX_ROWS]
    )
    if not rows:
        raise WhatIfError(f"pool {pool.name} finished no request in this time", "since")
    first = rows[0][0]
    rules = selectors.scheduling_class_rules()
    requests = [
        SimRequest(
            number,
            (arrived - first).total_seconds(),
            prompt,
            output,
            slo_class if slo_class in rules else DEFAULT_CLASS,
        )
        for number, (arrived, prompt, output, slo_class) in enumerate(rows)
    ]
    label = plain_name(name or f"{pool.name} {since:%Y-%m-%d %H:%M}")
    workload = Workload(label, requests, rules)
    return _keep(workload, label, WhatIfTrace.Source.RECORDED, actor, pool)


@transaction.atomic
def delete_trace(*, trace: WhatIfTrace, actor: str) -> None:
    """With the jobs that asked of it. Raises :class:`WhatIfError` while one is under way."""
    if any(job.is_open for job in trace.jobs.all()):
        raise WhatIfError("a simulation on this trace is under way; cancel it first")
    audit(actor=actor, action="what_if.delete_trace", object_type="what_if_trace", object_id=str(trace.pk))
    trace.delete()


def delete_traces_before(moment: datetime) -> int:
    """Retention; returns how many traces."""
    deleted, _ = WhatIfTrace.objects.filter(created_at__lt=moment).delete()
    return deleted


def plain_name(name: str) -> str:
    """A file's name as a label: no folders, nothing that a shell, a page or a spreadsheet would act on."""
    base = re.split(r"[\\/]", name)[-1]
    return re.sub(r"[^A-Za-z0-9 ._:+-]", "_", base).lstrip("=+-@. _")[:MAX_NAME] or "trace"


def _check_upload(content: bytes) -> None:
    if len(content) > MAX_UPLOAD_BYTES:
        raise WhatIfError(f"the file is larger than {MAX_UPLOAD_BYTES // 2**20} MiB", "file")
    for magic, kind in COMPRESSED.items():
        if content.startswith(magic):
            raise WhatIfError(f"the file is {kind}-compressed; upload the CSV itself", "file")
    if b"\0" in content:
        raise WhatIfError("the file is not text", "file")
    if content.count(b"\n") > MAX_ROWS + 1:
        raise WhatIfError(f"the file has more than {MAX_ROWS} rows; take a part of it", "file")


def _parse(label: str, content: bytes) -> Workload:
    with tempfile.TemporaryDirectory(prefix="what-if-") as folder:
        path = Path(folder) / "trace.csv"
        path.write_bytes(content)
        try:
            workload = read_trace(path, selectors.scheduling_class_rules(), DEFAULT_CLASS).workload
        except (TraceError, csv.Error) as error:
            raise WhatIfError(str(error).replace(str(path), label)[:400], "file") from error
    if workload.duration_s > MAX_DURATION_S:
        raise WhatIfError(f"the trace lasts {workload.duration_s:.0f} s; a day is the most", "file")
    return workload


@transaction.atomic
def _keep(workload: Workload, label: str, source: str, actor: str, pool: Pool | None) -> WhatIfTrace:
    kept = WhatIfTrace.objects.filter(created_by=actor).count()
    if kept >= min(MAX_TRACES_PER_PERSON, settings.WHAT_IF_MAX_TRACES):
        raise QuotaError(f"{actor} keeps {kept} traces already; delete one first")
    trace = WhatIfTrace.objects.create(
        name=label,
        source=source,
        pool=pool,
        content=_canonical(workload.requests),
        rows=len(workload.requests),
        duration_s=workload.duration_s,
        prompt_tokens=sum(request.prompt_tokens for request in workload.requests),
        output_tokens=sum(request.output_tokens for request in workload.requests),
        created_by=actor,
        created_at=timezone.now(),
    )
    audit(
        actor=actor,
        action="what_if.trace",
        object_type="what_if_trace",
        object_id=str(trace.pk),
        after={"name": label, "rows": trace.rows, "source": source},
    )
    return trace


def _canonical(requests: list[SimRequest]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arrival", "prompt", "output", "class"])
    for each in requests:
        writer.writerow([round(each.arrival_s, 6), each.prompt_tokens, each.output_tokens, each.slo_class])
    return text.getvalue().encode()
