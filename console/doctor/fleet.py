"""The loop, the jobs, Ray, engines and gateways."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

import httpx
from django.conf import settings
from django.utils import timezone

from console.doctor.finding import Finding, fail, ok, warn
from controlplane import redis_client
from controlplane.fleet import jobs_status, selectors
from controlplane.fleet.live_status import SeenStatus, read_gateways, read_statuses
from controlplane.fleet.models import Instance
from controlplane.rebalancing.selectors import loop_status

LOOP_SILENT_S = 10.0
JOBS_SILENT_S = 20.0
GATEWAY_SILENT_S = 5.0
HEALTH_TIMEOUT_S = 2.0
State = Instance.State


def loop() -> Iterator[Finding]:
    if redis_client.problem():
        yield warn("rebalancing loop", "not known: Redis does not answer", "bring Redis back")
        return
    status = loop_status()
    age_s = time.time() - status.last_tick_at_s if status else None
    advice = "start the workers: celery -A console worker -Q loop, and celery -A console beat"
    if status is None or age_s is None:
        yield fail("rebalancing loop", "never ran on this Redis", advice)
    elif age_s > LOOP_SILENT_S:
        yield fail("rebalancing loop", f"last tick {age_s:.0f} s ago: nothing migrates or drains", advice)
    else:
        says = f"epoch {status.epoch}, tick {status.tick}, {status.tick_ms:.1f} ms, leader {status.leader}"
        yield ok("rebalancing loop", says)
        for part in status.degraded:
            since_s = time.time() - part.since_s
            yield warn(f"loop without {part.part}", f"{part.reason}, for {since_s:.0f} s", "heals by itself")


def jobs_and_ray() -> Iterator[Finding]:
    """What the fleet's jobs left word of: only they talk to Ray, so no second connection is made here."""
    if redis_client.problem():
        yield warn("jobs", "not known: Redis does not answer", "bring Redis back")
        return
    status = jobs_status.read()
    age_s = time.time() - status.at_s if status else None
    if status is None or age_s is None or age_s > JOBS_SILENT_S:
        when = "never" if age_s is None else f"{age_s:.0f} s ago"
        advice = "start the worker: celery -A console worker -Q jobs, and celery -A console beat"
        yield fail("jobs", f"last ran {when}: nothing is started, stopped or restarted", advice)
        return
    yield ok("jobs", f"ran {age_s:.1f} s ago, {status.operations} long actions under way")
    alive = [node for node in status.nodes if node.alive]
    if status.problem:
        since_s = time.time() - (status.since_s or status.at_s)
        advice = "running engines go on; bring Ray's head back (make up restarts its own)"
        yield fail("ray", f"{status.problem}, for {since_s:.0f} s: nothing can be placed", advice)
        return
    room = ", ".join(
        f"{name} {sum(node.resources.get(name, 0.0) for node in alive):g}" for name in ("CPU", "GPU")
    )
    yield ok("ray", f"{status.ray_version}, {len(alive)} nodes ({room})")


def engines() -> Iterator[Finding]:
    rows = list(selectors.instances().exclude(state=State.STOPPED))
    if not rows:
        yield warn("engines", "there are none", "manage.py fleet add 1")
    reports = _reports()
    for row in rows:
        yield _engine(row, reports.get(row.instance_id))
    yield from _pools()
    yield from _versions(reports)


def _reports() -> dict[str, SeenStatus]:
    if redis_client.problem():
        return {}
    return {each.status.instance_id: each for each in read_statuses(time.time())}


def _engine(row: Instance, seen: SeenStatus | None) -> Finding:
    name = f"engine {row.instance_id}"
    if row.state in {State.UNHEALTHY, State.QUARANTINED}:
        again = "manage.py fleet release" if row.state == State.QUARANTINED else "it is tried again by itself"
        log = f"{settings.STATE_DIR / 'logs' / f'agent-{row.instance_id}.log'}"
        return fail(name, f"{row.state}: {row.cause}", f"{again}; its log: {log}")
    if row.state in Instance.RISING_STATES:
        return warn(name, f"{row.state}: {row.cause}", "wait, or see its log")
    if seen is None or seen.age_s > settings.STATUS_STALE_S:
        age = "no report" if seen is None else f"last report {seen.age_s:.0f} s ago"
        return fail(name, f"{row.state}, but {age}: it gets no work", "see its log; is its machine up?")
    if row.pool_revision and row.pool_revision < row.pool.revision:
        return warn(
            name,
            f"{row.state}, started with revision {row.pool_revision} of {row.pool.revision}",
            "manage.py fleet rolling-restart",
        )
    status = seen.status
    return ok(
        name, f"{row.state}, {status.running} running, {status.waiting} waiting, {status.engine_version}"
    )


def _pools() -> Iterator[Finding]:
    for pool in selectors.pools():
        size = selectors.pool_size(pool, now=timezone.now())
        says = f"target {size.target}, present {size.actual}, ready {size.ready}"
        if size.ready == 0 and size.target:
            yield fail(f"pool {pool.name}", f"{says}: requests are refused", "see its engines above")
        elif size.ready < size.target:
            yield warn(f"pool {pool.name}", says, "see its engines above")
        else:
            yield ok(f"pool {pool.name}", says)


def _versions(reports: dict[str, SeenStatus]) -> Iterator[Finding]:
    by_pool: dict[str, set[str]] = defaultdict(set)
    for item in reports.values():
        by_pool[item.status.pool].add(item.status.engine_version)
    for pool, versions in sorted(by_pool.items()):
        if len(versions) > 1:
            says = f"pool {pool} runs {', '.join(sorted(versions))}: requests cannot move between them"
            yield warn("engine versions", says, "finish the rolling restart")


def gateways() -> Iterator[Finding]:
    if redis_client.problem():
        yield warn("gateways", "not known: Redis does not answer", "bring Redis back")
        return
    fresh = [each for each in read_gateways() if time.time() - each.reported_at_s < GATEWAY_SILENT_S]
    if not fresh:
        advice = "start one: python -m controlplane.gateway --pool NAME"
        yield fail("gateways", "none reports: nobody answers /v1", advice)
    for each in fresh:
        yield _gateway(each.gateway_id, each.url, each.open_streams)


def _gateway(gateway_id: str, url: str, open_streams: int) -> Finding:
    name = f"gateway {gateway_id}"
    try:
        answer = httpx.get(f"{url}/health", timeout=HEALTH_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        return fail(name, f"reports, but {url}/health: {type(error).__name__}", "see its log and the network")
    if not answer.is_success:
        return warn(name, f"{url}/health answers {answer.status_code}", "it reaches no engine")
    return ok(name, f"{open_streams} open streams, serves at {url}")
