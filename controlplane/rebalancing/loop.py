"""The rebalancing loop: one leader, one tick after the other, whatever fails around it.

A tick reads Redis once (lease, reports, gateways, outcomes), asks the pure core for
every pool, commands agents together with a time-out, and says in Redis how it
went. The database is read and written beside the tick (:mod:`.view`,
:mod:`.memory`). Ticks never overlap; one that takes longer than the interval is
counted, and the ticks it displaced are skipped. Without Redis the loop waits;
without the database it decides with what it last read and stores later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
from django.db import DatabaseError, connection

from controlplane import redis_client
from controlplane.events.publish import send
from controlplane.events.schema import LoopChanged
from controlplane.fleet import watching
from controlplane.fleet.agents import AgentClient
from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.reports import Limits
from controlplane.rebalancing import outcomes, selectors, services, waiting
from controlplane.rebalancing.commands import Answered, Commander
from controlplane.rebalancing.degradations import Degradations
from controlplane.rebalancing.lease import Lease
from controlplane.rebalancing.memory import Memory, Sighting
from controlplane.rebalancing.sight import Eyes, Sight, of_registered, tell_unreadable
from controlplane.rebalancing.types import LoopStatus, PoolPolicy, Round
from controlplane.rebalancing.view import Inline, View, ViewReader, be_impatient_with_the_database
from controlplane.scheduling.policies import PlanState
from engine_agents.messages import GatewayStatus, RequestInfo

SYNC_S = 1.0
LONGEST_BACKOFF_TICKS = 2
"""Redis that is away is asked so often: what heals must be noticed within a few ticks."""
STATUS_TTL_S = 3_600
CLOSE_LIMIT_S = 3.0
MAX_COMMANDED = 5_000

logger = logging.getLogger(__name__)


class LeaseLostError(RuntimeError):
    """Another candidate may lead now; this one must stop deciding."""


@dataclass(frozen=True, slots=True)
class LoopSettings:
    interval_s: float = 0.2
    lease_ttl_ms: int = 5_000
    command_timeout_s: float = 1.0
    limits: Limits = field(default_factory=lambda: Limits(stale_s=3.0, dead_s=10.0))


class RebalancingLoop:
    """A candidate for leadership, and the leader once :meth:`lead` has returned True.

    By itself it reads and writes the database in the caller's thread; :meth:`run` does so beside the tick.
    """

    def __init__(self, *, owner: str, agents: AgentClient, settings: LoopSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.epoch = 0
        self.ticks = 0
        self.overruns = 0
        self.degraded = Degradations()
        self._commander = Commander(agents, timeout_s=settings.command_timeout_s)
        self._client = redis_client.connect()
        self._lease = Lease(self._client, owner=owner, ttl_ms=settings.lease_ttl_ms)
        self._eyes = Eyes()
        self._listening_since_s = 0.0
        self._synced_at_s = float("-inf")
        self._states: dict[str, PlanState] = {}
        self._holes: dict[str, Mapping[str, str]] = {}
        self._commanded: dict[str, None] = {}
        """Manual moves that were answered: their rows may not say so yet."""
        self._told_states_at_s = 0.0
        self._tick_ms = 0.0
        self._view = View()
        self._use(Inline(), Inline())

    def _use(self, reading: Executor, writing: Executor) -> None:
        self._views = ViewReader(reading, self.degraded)
        self._memory = Memory(writing, self.degraded, self.settings.limits)

    # ----------------------------------------------------------- leading

    def lead(self, *, now_s: float, now: datetime) -> bool:
        """Try to become the leader: the lease first, then a new epoch. False while another leads.

        Raises ``RedisError`` or ``DatabaseError``; the lease is given back before.
        """
        if not self._lease.acquire():
            return False
        try:
            self._take_epoch(self._eyes.first_look(self._client, now_s=now_s, wall_s=now.timestamp()), now)
            self._eyes.cursor = outcomes.start_after(self._client, services.outcomes_cursor())
        except DatabaseError:
            self._lease.release()
            raise
        self._listening_since_s = now_s
        self._announce(self.owner, "took the lease", now)
        return True

    def resign(self, *, now: datetime) -> None:
        """Give up the lease, so that the next leader need not wait for its end."""
        try:
            if self._lease.release():
                self._announce("", "stopped", now)
        except redis_client.RedisError as error:
            logger.info("the lease could not be given back (%s); it ends by itself", type(error).__name__)

    def close(self) -> None:
        """Let go of what a candidate holds; it is not used again."""
        self._client.close()

    def run(self, stop: threading.Event) -> str:
        """Lead until stopped or replaced; returns why it ended. Never raises for an outage."""
        if not self._lead_through_outages(stop):
            return "another leads" if not stop.is_set() else "stopped"
        with self._beside_the_tick():
            try:
                return self._tick_until(stop)
            finally:
                self._memory.close(now=_wall(), limit_s=CLOSE_LIMIT_S)
                self.resign(now=_wall())

    @contextmanager
    def _beside_the_tick(self) -> Iterator[None]:
        """Database reads and writes get a thread each, with a connection of its own."""
        reading = ThreadPoolExecutor(1, "loop-reads", initializer=be_impatient_with_the_database)
        writing = ThreadPoolExecutor(1, "loop-writes")
        self._use(reading, writing)
        try:
            yield
        finally:
            for executor in (reading, writing):
                executor.submit(lambda: connection.close())
                executor.shutdown(wait=False)

    def _tick_until(self, stop: threading.Event) -> str:
        backoff_s = 0.0
        while not stop.is_set():
            started_s = time.monotonic()
            try:
                self.tick(now_s=started_s, now=_wall())
                backoff_s = 0.0
            except LeaseLostError:
                if not self._lead_through_outages(stop):
                    return "the lease was lost"
            except (redis_client.RedisError, OSError) as error:
                self.degraded.failed("redis", type(error).__name__, wall_s=time.time())
                backoff_s = LONGEST_BACKOFF_TICKS * self.settings.interval_s
            stop.wait(max(backoff_s, self._rest_s(started_s)))
        return "stopped"

    def _rest_s(self, started_s: float) -> float:
        """Until the next tick of the grid that is still ahead; counts a tick that ran over."""
        spent_s = time.monotonic() - started_s
        interval_s = self.settings.interval_s
        if spent_s > interval_s:
            self.overruns += 1
        return interval_s - spent_s % interval_s

    def _lead_through_outages(self, stop: threading.Event) -> bool:
        while not stop.is_set():
            be_impatient_with_the_database()
            try:
                return self.lead(now_s=time.monotonic(), now=_wall())
            except (redis_client.RedisError, OSError) as error:
                self.degraded.failed("redis", type(error).__name__, wall_s=time.time())
            except DatabaseError as error:
                connection.close()
                self.degraded.failed("database", type(error).__name__, wall_s=time.time())
            stop.wait(LONGEST_BACKOFF_TICKS * self.settings.interval_s)
        return False

    # ----------------------------------------------------------- a tick

    def tick(self, *, now_s: float, now: datetime) -> list[Round]:
        """One look, one plan, one batch of commands, one batch of rows.

        Raises :class:`LeaseLostError` before anything is decided, ``RedisError`` when Redis is away.
        """
        started_s = time.perf_counter()
        sight = self._read(now_s, now)
        self._refresh(now_s, now)
        sight = self._of_registered(sight, now)
        self._keep_up_epoch(sight.seen, now)
        self.ticks += 1
        rounds = self._plan(sight, now)
        answered = self._command(rounds, sight.seen, now_s, now)
        self._store(rounds, answered, sight, now_s, now)
        detail = self._commander.look(sight.watched, now_s=now_s)
        self._tick_ms = (time.perf_counter() - started_s) * 1000
        self._report(rounds, len(sight.seen), detail, now)
        return rounds

    def _read(self, now_s: float, now: datetime) -> Sight:
        pipeline = self._client.pipeline(transaction=False)
        self._lease.renew_in(pipeline)
        wall_s = now.timestamp()
        self._eyes.look_in(pipeline, wall_s=wall_s, take_outcomes=not self._memory.full())
        renewed, *answers = pipeline.execute()
        if not renewed:
            raise LeaseLostError
        if "redis" in self.degraded:
            self._listening_since_s = now_s
        self.degraded.works("redis")
        return self._eyes.see(answers, now_s=now_s, wall_s=wall_s)

    def _of_registered(self, sight: Sight, now: datetime) -> Sight:
        wall_s, stale_s = now.timestamp(), self.settings.limits.stale_s
        tell_unreadable(self._eyes.reader.undecodable, self.degraded, wall_s=wall_s)
        if not self._view.policies:
            return sight  # No pool, or the database was never read: nothing is decided anyway.
        known = self._view.wanted.accepting
        return of_registered(sight, known, self.degraded, stale_s=stale_s, wall_s=wall_s)

    def _keep_up_epoch(self, seen: Sequence[SeenStatus], now: datetime) -> None:
        """While the lease is ours a higher epoch out there is an old one that the row forgot."""
        if _highest_epoch(seen) <= self.epoch:
            return
        with self.degraded.coping("database", DatabaseError, wall_s=now.timestamp()):
            self._take_epoch(seen, now)

    def _take_epoch(self, seen: Sequence[SeenStatus], now: datetime) -> None:
        self.epoch = services.take_epoch(reported=_highest_epoch(seen), leader=self.owner, now=now)
        self.ticks = 0

    def _refresh(self, now_s: float, now: datetime) -> None:
        self._view = self._views.latest(now_s=now_s, now=now)

    def _plan(self, sight: Sight, now: datetime) -> list[Round]:
        by_pool: dict[str, list[SeenStatus]] = {}
        for item in sight.seen:
            by_pool.setdefault(item.status.pool, []).append(item)
        rounds = []
        for policy in self._view.policies:
            with self.degraded.coping(f"policy of {policy.pool}", Exception, wall_s=now.timestamp()):
                rounds.append(self._plan_pool(policy, by_pool.get(policy.pool, []), sight.gateways, now))
        self._states |= {each.policy.pool: each.state_after for each in rounds}
        return rounds

    def _plan_pool(
        self,
        policy: PoolPolicy,
        seen: Sequence[SeenStatus],
        gateways: Sequence[GatewayStatus],
        now: datetime,
    ) -> Round:
        waiters, queue_tokens = waiting.queue_of(gateways, policy.pool, taken_at_s=now.timestamp())
        return services.plan_round(
            policy,
            seen,
            classes=self._view.classes,
            draining=self._view.wanted.draining(),
            starting=self._view.wanted.starting.get(policy.pool_id, 0),
            waiters=waiters,
            queue_tokens=queue_tokens,
            state=self._states.get(policy.pool, PlanState()),
            epoch=self.epoch,
            tick=self.ticks,
            now=now,
        )

    def _command(
        self, rounds: Sequence[Round], seen: Sequence[SeenStatus], now_s: float, now: datetime
    ) -> list[Answered]:
        asked = [row for row in self._view.requested if row.migration_id not in self._commanded]
        answered = self._commander.move_asked(asked, seen, epoch=self.epoch, now_s=now_s, now=now)
        self._note_commanded(answered)
        self._commander.move(rounds, now_s=now_s)
        stale_s = self.settings.limits.stale_s
        self._commander.settle_wishes(
            self._view.wanted.accepting, seen, epoch=self.epoch, stale_s=stale_s, now_s=now_s
        )
        if names := self._commander.unreachable(seen, dead_s=self.settings.limits.dead_s):
            self.degraded.failed("agents", f"no answer from {', '.join(names)}", wall_s=now.timestamp())
        else:
            self.degraded.works("agents")
        return answered

    def _note_commanded(self, answered: Sequence[Answered]) -> None:
        """The row is written beside the tick: a reading from before must not command it twice."""
        self._commanded |= dict.fromkeys(row.migration_id for row, _ in answered)
        while len(self._commanded) > MAX_COMMANDED:
            del self._commanded[next(iter(self._commanded))]

    # ----------------------------------------------------------- memory

    def _store(
        self,
        rounds: Sequence[Round],
        answered: Sequence[Answered],
        sight: Sight,
        now_s: float,
        now: datetime,
    ) -> None:
        sighting = None
        if now_s - self._synced_at_s >= SYNC_S:
            sighting = Sighting(sight.seen, now_s - self._listening_since_s, now)
            self._synced_at_s = now_s
        self._memory.remember(rounds, answered, sight.outcomes, sighting)
        self._memory.store(now=now)

    def status(self, *, instances: int, now: datetime) -> LoopStatus:
        return LoopStatus(
            leader=self.owner,
            epoch=self.epoch,
            tick=self.ticks,
            last_tick_at_s=now.timestamp(),
            tick_ms=round(self._tick_ms, 3),
            interval_ms=round(self.settings.interval_s * 1000),
            overruns=self.overruns,
            instances=instances,
            commands_refused=self._commander.refused,
            degraded=self.degraded.listed(),
            pools=len(self._view.policies),
            rounds_waiting=self._memory.waiting_rounds(),
            rounds_forgotten=self._memory.forgotten,
        )

    def _report(
        self, rounds: Sequence[Round], instances: int, detail: dict[str, list[RequestInfo]], now: datetime
    ) -> None:
        pipeline = self._client.pipeline(transaction=False)
        payload = msgspec.json.encode(self.status(instances=instances, now=now))
        pipeline.set(redis_client.key(selectors.LOOP_STATUS_KEY), payload, ex=STATUS_TTL_S)
        holes = {each.policy.pool: each.state_after.holes for each in rounds if each.state_after.holes}
        waiting.declare_in(pipeline, holes, changed=holes != self._holes)
        if now.timestamp() - self._told_states_at_s >= SYNC_S:
            self._told_states_at_s = now.timestamp()
            states = {pool: state.to_dict() for pool, state in self._states.items()}
            pipeline.set(redis_client.key(selectors.PLAN_STATES_KEY), msgspec.json.encode(states), ex=60)
        if detail:
            watching.show_in(pipeline, detail, wall_s=now.timestamp())
        pipeline.execute()
        self._holes = holes

    def _announce(self, leader: str, reason: str, now: datetime) -> None:
        logger.info("rebalancing loop, epoch %d: %s %s", self.epoch, self.owner, reason)
        send([LoopChanged.of(at=now, leader=leader, lease_epoch=self.epoch, reason=reason)])


def _highest_epoch(seen: Sequence[SeenStatus]) -> int:
    return max((item.status.lease_epoch for item in seen), default=0)


def _wall() -> datetime:
    return datetime.now(tz=UTC)
