"""The database, Redis, and the clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from console.doctor.finding import Finding, fail, ok, warn, within_ms
from controlplane import redis_client
from controlplane.fleet.live_status import read_statuses
from controlplane.rebalancing.models import LoopState

SLOW_WRITE_MS = 250.0
SLOW_REDIS_MS = 50.0
SKEW_WARN_S = 2.0
SKEW_FAIL_S = 30.0
OLDEST_REDIS = (7, 0)


def database() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        advice = "start it or correct DATABASE_URL; streams go on meanwhile, new keys and history wait"
        yield fail("database", f"{connection.vendor} does not answer: {str(error).splitlines()[0]}", advice)
        return
    yield ok("database", f"{connection.vendor} {_database_version()} answers")
    yield _migrated()
    yield _writable()


def _database_version() -> str:
    query = "SELECT sqlite_version()" if connection.vendor == "sqlite" else "SHOW server_version"
    with connection.cursor() as cursor:
        cursor.execute(query)
        return str(cursor.fetchone()[0])


def _migrated() -> Finding:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{each.app_label}.{each.name}" for each, _ in missing[:3])
        return fail("schema", f"{len(missing)} migrations are not applied ({names})", "manage.py migrate")
    return ok("schema", "every migration is applied")


def _writable() -> Finding:
    try:
        took_ms = within_ms(_try_write)
    except DatabaseError as error:
        advice = "something holds a long transaction, or the disk is full; end it, or make room"
        return fail("database writes", f"not possible: {str(error).splitlines()[0]}", advice)
    if took_ms > SLOW_WRITE_MS:
        return warn(
            "database writes", f"one took {took_ms:.0f} ms", "a busy SQLite: use PostgreSQL (DATABASE_URL)"
        )
    return ok("database writes", f"one took {took_ms:.1f} ms")


class _TakenBackError(Exception):
    pass


def _try_write() -> None:
    """A write that leaves nothing behind."""
    try:
        with transaction.atomic():
            LoopState.objects.filter(pk=-1).update(epoch=0)
            raise _TakenBackError
    except _TakenBackError:
        pass


def redis() -> Iterator[Finding]:
    problem = redis_client.problem()
    if problem:
        where = "the embedded Redis" if settings.REDIS_EMBEDDED else "Redis (REDIS_URL)"
        advice = "start it (embedded: make up restarts it); streams go on on the last view meanwhile"
        yield fail("redis", f"{where} {problem}", advice)
        return
    with redis_client.connect() as client:
        info = cast(dict[str, Any], client.info())
        took_ms = within_ms(client.ping)
    version = str(info.get("redis_version", "?"))
    yield ok("redis", f"{version} answers in {took_ms:.1f} ms")
    if took_ms > SLOW_REDIS_MS:
        yield warn("redis speed", f"a ping took {took_ms:.0f} ms", "look for slow commands or a full machine")
    yield from _redis_settings(info, version)


def _redis_settings(info: dict[str, Any], version: str) -> Iterator[Finding]:
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST_REDIS:
        says = f"{version} gets no security fixes any more"
        yield (
            ok("redis version", f"{says}; it is the embedded one, reachable by this user only")
            if settings.REDIS_EMBEDDED
            else warn("redis version", says, "run Redis 7 or Valkey")
        )
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory") and policy != "noeviction":
        yield fail(
            "redis memory", f"maxmemory-policy is {policy}: leases and reports may vanish", "noeviction"
        )
    if info.get("aof_enabled") and info.get("aof_last_write_status") not in (None, "ok"):
        yield fail("redis disk", "its last write to disk failed", "look for a full disk")


def clocks() -> Iterator[Finding]:
    """Nothing here decides by wall clocks of others; skew makes times on pages wrong."""
    skews = {}
    if not redis_client.problem():
        with redis_client.connect() as client:
            seconds, micros = cast(tuple[int, int], client.time())
        skews["Redis"] = seconds + micros / 1e6 - time.time()
        for item in read_statuses(time.time()):
            if item.age_s < SKEW_WARN_S or item.status.reported_at_s > time.time():
                skews[item.status.instance_id] = (
                    item.status.reported_at_s - time.time() + min(item.age_s, 1.0)
                )
    if connection.vendor == "postgresql":
        skews["the database"] = _database_skew_s()
    if not skews:
        yield warn("clocks", "nobody to compare with", "bring Redis back")
        return
    who, skew_s = max(skews.items(), key=lambda item: abs(item[1]))
    says = f"{who} differs by {skew_s:+.1f} s (the most of {len(skews)})"
    if abs(skew_s) > SKEW_FAIL_S:
        yield fail("clocks", says, "run NTP there: times on pages and key expiry are wrong")
    elif abs(skew_s) > SKEW_WARN_S:
        yield warn("clocks", says, "run NTP there")
    else:
        yield ok("clocks", says)


def _database_skew_s() -> float:
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    return (now - datetime.now(tz=UTC)).total_seconds()


def sqlite_file() -> Path | None:
    """Where the database lies, if it is a file."""
    name = str(connection.settings_dict["NAME"])
    return Path(name) if connection.vendor == "sqlite" and name.startswith("/") else None
