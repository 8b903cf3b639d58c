"""The loop's writes: rounds, moves, outcomes and states of instances, in batches beside the tick.

What cannot be stored now waits for the next attempt, in order and within bounds.
The stream's cursor is stored with the outcomes before it, so that a new leader
reads what the last one read but did not store.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import InterfaceError, OperationalError, transaction

from controlplane.fleet import services as fleet
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.reports import Limits
from controlplane.rebalancing import services
from controlplane.rebalancing.commands import Answered
from controlplane.rebalancing.degradations import Degradations
from controlplane.rebalancing.outcomes import OutcomeBatch
from controlplane.rebalancing.types import Round
from controlplane.rebalancing.view import DATABASE, give_up_connection
from engine_agents.messages import MigrationOutcome

MAX_ROUNDS = 500
"""Kept while the database is away; beyond it the oldest are forgotten and counted."""
MAX_OUTCOMES = 10_000
"""Beyond it no more are read: they wait in the stream."""
SCALING_FRESH = timedelta(seconds=5)
"""An older wish of the policy is not carried out: it would be decided again."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sighting:
    """What instances report, for their rows."""

    seen: Sequence[SeenStatus]
    listening_s: float
    now: datetime


@dataclass(slots=True)
class _Pending:
    rounds: list[Round] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    outcomes: list[MigrationOutcome] = field(default_factory=list)
    cursor: str = ""
    sighting: Sighting | None = None

    def __bool__(self) -> bool:
        return bool(self.rounds or self.answered or self.cursor or self.sighting)


class Memory:
    """``remember`` costs a tick nothing; ``store`` has it written by the thread of ``executor``."""

    def __init__(self, executor: Executor, degraded: Degradations, limits: Limits) -> None:
        self._executor = executor
        self._degraded = degraded
        self._limits = limits
        self._lock = threading.Lock()
        self._pending = _Pending()
        self._writing: Future[None] | None = None
        self.forgotten = 0
        """What could not be stored for so long, or at all, and was given up."""

    def remember(
        self,
        rounds: Sequence[Round] = (),
        answered: Sequence[Answered] = (),
        batch: OutcomeBatch | None = None,
        sighting: Sighting | None = None,
    ) -> None:
        with self._lock:
            pending = self._pending
            pending.rounds += [each for each in rounds if each.decisions]
            self._bound(pending)
            pending.answered += answered
            if batch is not None and batch.outcomes:
                pending.outcomes += batch.outcomes
                pending.cursor = batch.cursor
            pending.sighting = sighting or pending.sighting

    def full(self) -> bool:
        """Whether outcomes should stay in the stream for now."""
        return len(self._pending.outcomes) >= MAX_OUTCOMES

    def waiting_rounds(self) -> int:
        return len(self._pending.rounds)

    def store(self, *, now: datetime) -> None:
        """Begin to write what waits, unless a write is under way."""
        if self._writing is not None and not self._writing.done():
            return
        with self._lock:
            batch, self._pending = self._pending, _Pending()
        if batch:
            self._writing = self._executor.submit(self._store, batch, now)

    def close(self, *, now: datetime, limit_s: float) -> None:
        """Write the rest; what is not stored within the limit is read again from the stream by the next."""
        try:
            for _ in range(2):
                if self._writing is not None:
                    self._writing.result(limit_s)
                self.store(now=now)
        except TimeoutError:
            logger.warning("%d rounds were not stored in time", self.waiting_rounds())

    def _store(self, batch: _Pending, now: datetime) -> None:
        try:
            with transaction.atomic():
                self._write(batch, now)
        except (OperationalError, InterfaceError) as error:
            give_up_connection()
            self._degraded.failed(DATABASE, f"{type(error).__name__}: {error}", wall_s=now.timestamp())
            self._put_back(batch)
        except Exception:
            logger.exception("something cannot be stored: the rest is stored without it")
            self._store_in_pieces(batch, now)
        else:
            self._degraded.works(DATABASE)

    def _store_in_pieces(self, batch: _Pending, now: datetime) -> None:
        """What no database would take must not keep the rest waiting for ever."""
        for piece in _pieces(batch):
            try:
                with transaction.atomic():
                    self._write(piece, now)
            except Exception as error:
                logger.error("given up: %s", str(error)[:500])
                self.forgotten += 1

    def _write(self, batch: _Pending, now: datetime) -> None:
        if batch.answered:
            services.record_manual_answers(batch.answered, now=now)
        if batch.rounds:
            services.record_rounds(batch.rounds)
        if batch.outcomes:
            services.apply_outcomes(batch.outcomes)
        if batch.cursor:
            services.keep_outcomes_cursor(batch.cursor)
        services.carry_out_scaling([each for each in batch.rounds if now - each.taken_at < SCALING_FRESH])
        if batch.sighting is not None:
            sighting = batch.sighting
            fleet.sync_instances(
                sighting.seen, limits=self._limits, listening_s=sighting.listening_s, now=sighting.now
            )

    def _put_back(self, batch: _Pending) -> None:
        with self._lock:
            newer, self._pending = self._pending, batch
            batch.rounds += newer.rounds
            self._bound(batch)
            batch.answered += newer.answered
            batch.outcomes += newer.outcomes
            batch.cursor = newer.cursor or batch.cursor
            batch.sighting = newer.sighting

    def _bound(self, pending: _Pending) -> None:
        beyond = len(pending.rounds) - MAX_ROUNDS
        if beyond > 0:
            del pending.rounds[:beyond]
            self.forgotten += beyond


def _pieces(batch: _Pending) -> Iterator[_Pending]:
    """One by one, in the same order; the cursor last."""
    for answered in batch.answered:
        yield _Pending(answered=[answered])
    for done in batch.rounds:
        yield _Pending(rounds=[done])
    for outcome in batch.outcomes:
        yield _Pending(outcomes=[outcome])
    yield _Pending(cursor=batch.cursor, sighting=batch.sighting)
