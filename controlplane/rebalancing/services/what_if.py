"""What-if jobs: asked within quotas, simulated on a queue of their own, in a process with limits."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from controlplane.events.publish import publish
from controlplane.events.schema import WhatIfChanged
from controlplane.fleet.models import Instance, Pool
from controlplane.rebalancing.models import PolicyVersion, WhatIfJob, WhatIfTrace
from controlplane.rebalancing.patience import Patience
from controlplane.rebalancing.services.what_if_traces import QuotaError, WhatIfError
from controlplane.records.services import audit
from controlplane.scheduling.config import ConfigError, SchedulingConfig
from controlplane.simulator import latency as latency_models
from controlplane.simulator.what_if import Question
from controlplane.tenancy.models import SLOClass

OPEN_PER_PERSON = 2
OPEN_IN_ALL = 20
POLICIES = 2
MAX_INSTANCES = 64
MEMORY_LIMIT_BYTES = 2 * 2**30
LOOK_EVERY_S = 0.5
MAX_ANSWER_BYTES = 4 * 2**20
MODULE = "controlplane.simulator.what_if"


@transaction.atomic
def start_what_if(
    *,
    trace: WhatIfTrace,
    pool: Pool,
    policies: Sequence[Mapping[str, Any]],
    actor: str,
    instances: int | None = None,
    latency: str = "",
    seed: int = 0,
) -> WhatIfJob:
    """Queue a comparison of two policies: each ``{"version": n}`` or ``{"name", "config"}``.

    Raises :class:`WhatIfError` naming the field, :class:`QuotaError` when too many are under way.
    """
    asked = [_policy(pool, each, number) for number, each in enumerate(policies)]
    if len(asked) != POLICIES:
        raise WhatIfError(f"policies: name two to compare, got {len(asked)}", "policies")
    size = _fleet_size(pool) if instances is None else instances
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_INSTANCES:
        raise WhatIfError(f"instances: must be a whole number from 1 to {MAX_INSTANCES}", "instances")
    model = latency or latency_models.DEFAULT_MODEL
    if model not in latency_models.available():
        raise WhatIfError(f"latency: must be one of {', '.join(latency_models.available())}", "latency")
    _check_quota(actor)
    job = WhatIfJob.objects.create(
        trace=trace,
        pool=pool,
        policies=asked,
        instances=size,
        latency=model,
        seed=seed,
        created_by=actor,
        created_at=timezone.now(),
    )
    audit(
        actor=actor,
        action="what_if.start",
        object_type="what_if",
        object_id=str(job.pk),
        after={"trace": trace.name, "pool": pool.name, "policies": [each["name"] for each in asked]},
    )
    _announce(job)
    transaction.on_commit(lambda: _send(job.pk))
    return job


def _send(job_id: int) -> None:
    from controlplane.rebalancing.tasks import run_what_if

    run_what_if.delay(job_id)


def _check_quota(actor: str) -> None:
    states = list(WhatIfJob.OPEN_STATES)
    mine = WhatIfJob.objects.filter(created_by=actor, state__in=states).count()
    if mine >= OPEN_PER_PERSON:
        raise QuotaError(f"{actor} has {mine} simulations under way; wait for one, or cancel one")
    if WhatIfJob.objects.filter(state__in=states).count() >= OPEN_IN_ALL:
        raise QuotaError(f"{OPEN_IN_ALL} simulations are under way already; try again later")


def _policy(pool: Pool, asked: Mapping[str, Any], number: int) -> dict[str, Any]:
    field = f"policies.{number}"
    if not isinstance(asked, Mapping):
        raise WhatIfError(f"{field}: must be a mapping", field)
    if "version" in asked:
        row = PolicyVersion.objects.filter(pool=pool, version=asked["version"]).first()
        if row is None:
            raise WhatIfError(f"{field}: pool {pool.name} has no version {asked['version']!r}", field)
        return {"name": f"version {row.version} ({row.config.get('policy', '')})", "config": row.config}
    try:
        config = SchedulingConfig.from_dict(asked.get("config", {}))
    except ConfigError as error:
        raise WhatIfError(f"{field}.{error}", f"{field}.{error.field}") from error
    return {"name": str(asked.get("name") or config.policy)[:60], "config": config.to_dict()}


def _fleet_size(pool: Pool) -> int:
    live = Instance.objects.filter(pool=pool, state__in=Instance.LIVE_STATES).count()
    return max(1, min(MAX_INSTANCES, live))


@transaction.atomic
def cancel_what_if(*, job: WhatIfJob, actor: str) -> WhatIfJob:
    """End a job that is not over; its simulation stops within a second."""
    job = WhatIfJob.objects.select_for_update().get(pk=job.pk)
    if job.is_open:
        job.cancel(now=timezone.now())
        job.save(update_fields=["state", "finished_at"])
        audit(actor=actor, action="what_if.cancel", object_type="what_if", object_id=str(job.pk))
        _announce(job)
    return job


# --------------------------------------------------------------- carried out by the worker


def carry_out_what_if(job_id: int) -> str:
    """Simulate one job; returns how it ended. Whatever the simulation does, this returns."""
    job = _claim(job_id)
    if job is None:
        return "not to be done"
    with tempfile.TemporaryDirectory(prefix="what-if-") as folder:
        path = Path(folder) / "trace.csv"
        path.write_bytes(bytes(job.trace.content))
        result, problem = _simulate(job, _question(job, path), Path(folder))
    return _close(job_id, result, problem)


@transaction.atomic
def _claim(job_id: int) -> WhatIfJob | None:
    job = WhatIfJob.objects.select_for_update().select_related("trace").filter(pk=job_id).first()
    if job is None or job.state != WhatIfJob.State.QUEUED:
        return None
    job.state, job.started_at = WhatIfJob.State.RUNNING, timezone.now()
    job.save(update_fields=["state", "started_at"])
    _announce(job)
    return job


def _question(job: WhatIfJob, path: Path) -> Question:
    classes = [
        (
            row.name,
            row.rank,
            row.target_load_tokens,
            row.ttft_target_ms / 1000 if row.ttft_target_ms else None,
            row.tpot_target_ms / 1000 if row.tpot_target_ms else None,
        )
        for row in SLOClass.objects.order_by("rank")
    ]
    return Question(
        trace=str(path),
        policies=job.policies,
        instances=job.instances,
        latency=job.latency,
        classes=classes,
        seed=job.seed,
        cpu_limit_s=settings.WHAT_IF_TIMEOUT_S,
        memory_limit_bytes=MEMORY_LIMIT_BYTES,
    )


def _simulate(job: WhatIfJob, question: Question, folder: Path) -> tuple[dict[str, Any], str]:
    """The answer, or why there is none."""
    with (folder / "out").open("wb+") as out, (folder / "err").open("wb+") as err:
        child = subprocess.Popen(
            # Simulations are one thread; numerical libraries would set memory aside for many.
            ["env", "OPENBLAS_NUM_THREADS=1", "OMP_NUM_THREADS=1", sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=err,
            cwd=settings.BASE_DIR,
            start_new_session=True,
        )
        try:
            assert child.stdin is not None
            child.stdin.write(json.dumps(asdict(question)).encode())
            child.stdin.close()
            problem = _wait(job, child)
        finally:
            child.kill()
            child.wait()
        if problem:
            return {}, problem
        return _read_answer(child.returncode, folder)


def _wait(job: WhatIfJob, child: subprocess.Popen[bytes]) -> str:
    """Until it ends by itself, takes too long or is not wanted any more."""
    deadline_s = time.monotonic() + settings.WHAT_IF_TIMEOUT_S
    while child.poll() is None:
        if time.monotonic() > deadline_s:
            return f"the simulation took longer than {settings.WHAT_IF_TIMEOUT_S} s and was ended"
        if not WhatIfJob.objects.filter(pk=job.pk, state=WhatIfJob.State.RUNNING).exists():
            return "cancelled"
        time.sleep(LOOK_EVERY_S)
    return ""


def _read_answer(status: int, folder: Path) -> tuple[dict[str, Any], str]:
    words = (folder / "err").read_text(errors="replace").strip().splitlines()
    if status != 0:
        said = words[-1][:400] if words and status == 2 else f"the simulation ended with status {status}"
        return {}, said
    if (folder / "out").stat().st_size > MAX_ANSWER_BYTES:
        return {}, "the answer is too large to keep"
    return json.loads((folder / "out").read_bytes()), ""


@transaction.atomic
def _close(job_id: int, result: dict[str, Any], problem: str) -> str:
    job = WhatIfJob.objects.select_for_update().filter(pk=job_id).first()
    if job is None or job.state != WhatIfJob.State.RUNNING:
        return "cancelled"
    if problem:
        job.fail(problem, now=timezone.now())
    else:
        job.finish(result=result, now=timezone.now())
    job.save(update_fields=["state", "result", "problem", "finished_at"])
    _announce(job)
    return str(job.state)


def close_lost_what_ifs(*, patience: Patience, now_s: float, now: datetime) -> int:
    """Jobs whose worker died with them are told so; returns how many."""
    running = {job.pk: job for job in WhatIfJob.objects.filter(state=WhatIfJob.State.RUNNING)}
    lost = [running[key] for key in patience.overdue(running, now_s=now_s)]
    for job in lost:
        job.fail("its worker ended before it did; start it again", now=now)
        job.save(update_fields=["state", "problem", "finished_at"])
        _announce(job)
    return len(lost)


def _announce(job: WhatIfJob) -> None:
    publish(
        WhatIfChanged.of(
            at=timezone.now(), job_id=job.pk, state=job.state, problem=job.problem, actor=job.created_by
        )
    )
