"""What the loop last read from the database, read beside the tick: a slow database cannot hold one up.

A tick asks for a fresh reading and waits a moment for it. Should the moment pass,
it goes on with the reading before, and the database is listed as degraded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from django.db import DatabaseError, connection

from controlplane.fleet.selectors import WantedFleet, wanted_fleet
from controlplane.rebalancing import selectors
from controlplane.rebalancing.degradations import Backoff, Degradations
from controlplane.rebalancing.models import RequestMigration
from controlplane.rebalancing.types import PoolPolicy
from controlplane.scheduling.config import ConfigError
from controlplane.scheduling.snapshot import ClassRule

REFRESH_S = 1.0
"""Pools and classes are read so often; the active policies are looked at in every tick."""
PATIENCE_S = 0.1
SLOW_S = 1.0
"""A reading that takes longer is told; shorter ones only cost a tick its freshness."""
LONGEST_PAUSE_S = 2.0
"""Between two attempts at a database that is away."""
DATABASE = "database"

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class View:
    """One reading."""

    policies: tuple[PoolPolicy, ...] = ()
    classes: Mapping[str, ClassRule] = field(default_factory=dict)
    wanted: WantedFleet = field(default_factory=WantedFleet)
    requested: tuple[RequestMigration, ...] = ()
    fingerprint: tuple[int, ...] = ()
    refreshed_at_s: float = float("-inf")


class ViewReader:
    """One reading at a time, in the thread of ``executor``."""

    def __init__(self, executor: Executor, degraded: Degradations) -> None:
        self._executor = executor
        self._degraded = degraded
        self._backoff = Backoff(longest_s=LONGEST_PAUSE_S)
        self._last = View()
        self._reading: Future[View] | None = None
        self._asked_at_s = 0.0

    def latest(self, *, now_s: float, now: datetime) -> View:
        """The present reading where it can be had at once, else the last. Never raises for an outage."""
        patience_s = 0.0
        if self._reading is None:
            if self._backoff.waits(DATABASE, now_s=now_s):
                return replace(self._last, requested=())
            patience_s = PATIENCE_S
            last, self._asked_at_s = self._last, now_s
            self._reading = self._executor.submit(lambda: self._read(last, now_s, now))
        try:
            self._last = self._reading.result(patience_s)
        except TimeoutError:
            if now_s - self._asked_at_s > SLOW_S:
                self._degraded.failed(DATABASE, "does not answer in time", wall_s=now.timestamp())
            return replace(self._last, requested=())
        except DatabaseError as error:
            self._reading = None
            self._backoff.failed(DATABASE, now_s=now_s)
            self._degraded.failed(DATABASE, f"{type(error).__name__}: {error}", wall_s=now.timestamp())
            return replace(self._last, requested=())
        self._reading = None
        self._backoff.works(DATABASE)
        return self._last

    def _read(self, last: View, now_s: float, now: datetime) -> View:
        try:
            return self._read_changes(last, now_s, now)
        except DatabaseError:
            give_up_connection()
            raise

    def _read_changes(self, last: View, now_s: float, now: datetime) -> View:
        wanted, requested = wanted_fleet(), tuple(selectors.requested_migrations())
        fingerprint = selectors.policy_fingerprint()
        view = replace(last, wanted=wanted, requested=requested)
        if now_s - last.refreshed_at_s < REFRESH_S and fingerprint == last.fingerprint:
            return view
        classes = selectors.scheduling_class_rules()
        policies = last.policies
        with self._degraded.coping("policy", ConfigError, wall_s=now.timestamp()):
            policies = tuple(selectors.pool_policies())
        return replace(
            view, policies=policies, classes=classes, fingerprint=fingerprint, refreshed_at_s=now_s
        )


def give_up_connection() -> None:
    """After an error this thread's next statement connects anew."""
    if not connection.in_atomic_block:
        connection.close()


def be_impatient_with_the_database(limit_ms: int = 1_000) -> None:
    """Let this thread's statements fail rather than wait longer: a tick must not outlive the lease."""
    try:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute(f"PRAGMA busy_timeout = {int(limit_ms)}")
            else:
                cursor.execute(f"SET lock_timeout = {int(limit_ms)}")
                cursor.execute(f"SET statement_timeout = {2 * int(limit_ms)}")
    except DatabaseError as error:
        logger.warning("the database keeps its own time-outs: %s", error)


class Inline(Executor):
    """Does at once, in the caller's thread, what it is given."""

    def submit(self, fn: Callable[..., T], /, *args: object, **kwargs: object) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done
