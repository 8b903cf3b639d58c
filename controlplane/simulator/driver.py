"""The virtual-time driver of the policy core: the same functions as live, another clock.

``simulate`` plays a workload against simulated engines. Whatever is decided is decided
by ``controlplane.scheduling``: :func:`policies.dispatch` or :func:`queueing.next_dispatches`
for requests, :func:`policies.plan` for the fleet, ``engine_agents.selection`` for which
requests leave an instance. Reports reach the core with their age, messages take time.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping

from controlplane.scheduling import policies, queueing
from controlplane.scheduling.decisions import (
    Decision,
    Dispatch,
    Drain,
    Hole,
    Migrate,
    Reject,
    ScaleDown,
    ScaleUp,
    Undrain,
)
from controlplane.scheduling.ledger import NO_LEDGER, Ledger
from controlplane.scheduling.load import rank_of
from controlplane.scheduling.policies import PlanState
from controlplane.scheduling.snapshot import RequestProfile
from controlplane.simulator import events
from controlplane.simulator.cluster import Cluster, Member, uses_queue
from controlplane.simulator.events import EventLog, EventQueue
from controlplane.simulator.moves import Moves
from controlplane.simulator.result import (
    MigrationRecord,
    RequestRecord,
    Sample,
    SimulationConfig,
    SimulationError,
    SimulationResult,
)
from controlplane.simulator.workloads import SimRequest, Workload
from engine_agents.engines.simulated import Sequence

__all__ = [
    "MigrationRecord",
    "RequestRecord",
    "Sample",
    "SimulationConfig",
    "SimulationError",
    "SimulationResult",
    "simulate",
]


def simulate(workload: Workload, config: SimulationConfig) -> SimulationResult:
    """Play ``workload`` on the fleet and under the policy of ``config``, until every request is over."""
    return _Simulation(workload, config).run()


REHOME_EVERY_S = 1.0
"""Between two looks at whether pre-empted requests shall return to the fleet's queue."""
PATIENCE_S = 600.0
"""Virtual time without any event but ticks, after which a simulation gives up."""


class _Simulation:
    def __init__(self, workload: Workload, config: SimulationConfig) -> None:
        self.config = config
        self.policy = config.policy
        self.row = policies.POLICIES[config.policy.policy]
        self.workload = workload
        self.classes = workload.classes
        self.cluster = Cluster(config, workload.classes)
        self.events = EventQueue()
        self.log = EventLog()
        self.moves = Moves(self)
        self.late = uses_queue(config.policy)
        self.rehoming = self.late and config.policy.queue.rehome
        """Engines hand back what they must pre-empt."""
        self.next_rehome_s = 0.0
        self.skips_rounds = (
            config.jump
            and not config.policy.scaling.enabled
            and not config.policy.rescheduling.source_free_share
            and not self.cluster.tracked
        )
        """See :meth:`_must_plan`; a step-by-step run, which checks this one, plans every time."""
        usable = int(config.latency.capacity_blocks * (1.0 - config.policy.dispatch.watermark_share)) - 1
        self.longest_tokens = usable * config.latency.block_size_tokens
        """No engine takes a request that could outgrow it; one block is for the append."""
        self.queue = queueing.FleetQueue()
        self.waiting: dict[str, Sequence] = {}
        """Sequences in the fleet's queue, by request id."""
        self.held: list[tuple[RequestProfile, Sequence]] = []
        """Immediate binding with no instance to take work."""
        self.state = PlanState()
        self.holes: Mapping[str, str] = {}
        self.open = len(workload.requests)
        self.next_arrival = 0
        self.records: list[RequestRecord] = []
        self.samples: list[Sample] = []
        self.next_sample_s = 0.0
        self.scale_events: list[tuple[float, str, int]] = []
        self.instance_seconds = 0.0
        self.decisions = 0
        self.holes_opened = 0
        self.end_s = 0.0
        self.idle_since_s = 0.0

    # ------------------------------------------------------------------ the loop

    def run(self) -> SimulationResult:
        """Events in their order until every request is over."""
        started = time.process_time()
        collecting = gc.isenabled()
        gc.disable()
        try:
            self._prepare()
            pop = self.events.pop
            while self.open:
                now, action, argument = pop()
                action(now, argument)
            self.end_s = now
        finally:
            if collecting:
                gc.enable()
        return self._result(time.process_time() - started)

    def _prepare(self) -> None:
        for _ in range(self.config.instances):
            self._start_instance(0.0, 0.0)
        requests = self.workload.requests
        if not requests:
            raise SimulationError("the workload has no requests")
        self.events.push(requests[0].arrival_s, events.ARRIVAL, self._arrive, requests[0])
        self.events.push(self.config.tick_s, events.TICK, self._tick, None)

    def _start_instance(self, now: float, launched_s: float) -> None:
        member = self.cluster.start(now, launched_s)
        engine = member.engine
        engine.on_finished = self._finished
        engine.on_preempted = self._preempted
        engine.on_frozen = self.moves.frozen
        engine.only_if_fits = self.late
        engine.hand_back = self.rehoming
        self.log.note(now, events.INSTANCE_UP, -1, engine.index)

    def sync(self, member: Member) -> None:
        """After anything was asked of an engine: see to it that its step's end is in the queue."""
        engine = member.engine
        wake_s = engine.wake_s
        if wake_s != member.pushed_s:
            member.pushed_s = wake_s
            if wake_s < float("inf"):
                self.events.push(wake_s, events.STEP, self._step, member, engine.index)
        if engine.changed:
            engine.changed = False
            if self.late and len(self.queue):
                self._expect_report(member)

    def _step(self, now: float, member: Member) -> None:
        engine = member.engine
        if engine.wake_s != now:
            return
        engine.on_time(now)
        self.sync(member)
        if member.draining:
            self._retire(member, now)

    # ------------------------------------------------------------------ requests

    def _arrive(self, now: float, request: SimRequest) -> None:
        self.next_arrival += 1
        requests = self.workload.requests
        if self.next_arrival < len(requests):
            following = requests[self.next_arrival]
            self.events.push(following.arrival_s, events.ARRIVAL, self._arrive, following)
        rank = rank_of(request.slo_class, self.classes)
        sequence = Sequence(
            request.request_id, request.prompt_tokens, request.output_tokens, now, request.slo_class, rank
        )
        self.log.note(now, events.ARRIVED, request.request_id, -1)
        profile = RequestProfile(sequence.request_id, request.slo_class, request.prompt_tokens, now)
        if request.prompt_tokens + request.output_tokens > self.longest_tokens:
            self._reject(sequence, now)
        elif self.late:
            self._enqueue(profile, sequence, queueing.queue_key(profile, self.policy), now)
        else:
            self._bind_now(profile, sequence, now)

    def _bind_now(self, profile: RequestProfile, sequence: Sequence, now: float) -> None:
        cluster = self.cluster
        cluster.refresh(now)
        decision = policies.dispatch(cluster.view(now), cluster.ledger, profile, self.policy)
        if isinstance(decision, Dispatch):
            self._send(cluster.members[decision.instance_id], sequence, now)
        elif isinstance(decision, Reject):
            self._reject(sequence, now)
        else:
            self.held.append((profile, sequence))

    def _send(self, member: Member, sequence: Sequence, now: float) -> None:
        self.decisions += 1
        seq = self.cluster.send(member, sequence.prompt_tokens + sequence.generated)
        self.log.note(now, events.BOUND, sequence.number, member.engine.index)
        at_s = now + self.config.dispatch_delay_s
        self.events.push(at_s, events.MESSAGE, self._deliver, (member, sequence, seq))

    def _deliver(self, now: float, sent: tuple[Member, Sequence, int]) -> None:
        member, sequence, seq = sent
        engine = member.engine
        engine.seen_seq = max(engine.seen_seq, seq)
        if engine.add(sequence, now):
            self.sync(member)
            return
        self.log.note(now, events.REFUSED, sequence.number, engine.index)
        self.events.push(now + self.config.report_delay_s, events.REPORT, self._returned, sequence)

    def _finished(self, sequence: Sequence, now: float) -> None:
        self.open -= 1
        if sequence.leaving:
            self.moves.lost(sequence, "finished", now)
        self._record(sequence, now)

    def _record(self, sequence: Sequence, now: float, rejected: bool = False) -> None:
        log = self.log
        log.note(sequence.first_token_s, events.FIRST_TOKEN, sequence.number, -1)
        log.note(now, events.FINISHED, sequence.number, sequence.visited[-1] if sequence.visited else -1)
        self.records.append(
            RequestRecord(
                sequence.number,
                sequence.slo_class,
                sequence.arrived_at_s,
                sequence.prompt_tokens,
                sequence.output_tokens,
                sequence.first_token_s,
                sequence.finished_s,
                sequence.preemptions,
                sequence.preemption_loss_s,
                sequence.migrations,
                sequence.downtime_s,
                tuple(sequence.visited),
                rejected,
            )
        )

    def _reject(self, sequence: Sequence, now: float) -> None:
        self.open -= 1
        self.log.note(now, events.REJECTED, sequence.number, -1)
        self._record(sequence, now, rejected=True)

    def _preempted(self, sequence: Sequence, now: float) -> None:
        self.log.note(now, events.PREEMPTED, sequence.number, sequence.visited[-1])
        if sequence.leaving:
            self.moves.lost(sequence, "preempted", now)
        if sequence.engine is None:
            self.events.push(now + self.config.report_delay_s, events.REPORT, self._rehome, sequence)

    # ------------------------------------------------------------------ the fleet's queue

    def _enqueue(self, profile: RequestProfile, sequence: Sequence, key_s: float, now: float) -> None:
        first = not len(self.queue)
        self.queue.add(profile, sequence.rank, key_s)
        self.waiting[profile.request_id] = sequence
        self.cluster.refresh(now)
        self._walk(now, request_id=profile.request_id)
        if first and len(self.queue):
            self._expect_reports(now)

    def _walk(self, now: float, *, member: Member | None = None, request_id: str = "") -> None:
        cluster = self.cluster
        for dispatch in queueing.next_dispatches(
            self.queue,
            cluster.view(now),
            cluster.ledger,
            self.policy,
            holes=self.holes,
            instances=None if member is None else (member.snapshot,),
            request_id=request_id,
        ):
            self.queue.remove(dispatch.request_id)
            sequence = self.waiting.pop(dispatch.request_id)
            self._send(cluster.members[dispatch.instance_id], sequence, now)

    def _expect_reports(self, now: float) -> None:
        """The queue was empty and is not any more: reports under way matter now."""
        for member in self.cluster.members.values():
            if member.engine.first_report_s() + self.config.report_delay_s > now:
                self._expect_report(member)

    def _expect_report(self, member: Member) -> None:
        at_s = member.engine.first_report_s() + self.config.report_delay_s
        self.events.push(at_s, events.REPORT, self._reported, member)

    def _reported(self, now: float, member: Member) -> None:
        if len(self.queue) and member.id in self.cluster.members:
            self.cluster.refresh_one(member, now)
            self._walk(now, member=member)

    def _profile(self, sequence: Sequence) -> RequestProfile:
        return RequestProfile(
            sequence.request_id,
            sequence.slo_class,
            sequence.prompt_tokens,
            sequence.arrived_at_s,
            sequence.generated,
        )

    def _returned(self, now: float, sequence: Sequence) -> None:
        """The instance had no room after all."""
        profile = self._profile(sequence)
        self._enqueue(profile, sequence, queueing.queue_key(profile, self.policy), now)

    def _rehome(self, now: float, sequence: Sequence) -> None:
        """An instance had to pre-empt it: its cache is lost, so any instance is as good."""
        profile = self._profile(sequence)
        self._enqueue(profile, sequence, queueing.rehome_key(profile, now, self.policy), now)

    # ------------------------------------------------------------------ the rebalancing loop

    def _tick(self, now: float, _: object) -> None:
        if not len(self.events):
            self._stuck(now)
        else:
            self.idle_since_s = now
        self.events.push(now + self.config.tick_s, events.TICK, self._tick, None)
        if now >= self.next_sample_s:
            self.next_sample_s += self.config.sample_s
            self._sample(now)
        cluster = self.cluster
        if self._must_plan(now):
            cluster.refresh(now)
            snapshot = cluster.view(now, self._waiters(), self.queue.tokens())
            decisions, self.state = policies.plan(snapshot, self.state, self.policy, self._plan_ledger())
            self.holes = self.state.holes
            if self.late and self.policy.queue.rehome and now >= self.next_rehome_s:
                self.next_rehome_s = now + REHOME_EVERY_S
                self._hand_back(queueing.rehomes(snapshot, self.policy))
            for decision in decisions:
                self._execute(decision, now)
        if self.late and len(self.queue):
            cluster.refresh(now)
            self._walk(now)
        if self.held:
            held, self.held = self.held, []
            for profile, sequence in held:
                self._bind_now(profile, sequence, now)

    def _must_plan(self, now: float) -> bool:
        """Could the loop decide anything now? Exact: a round that is left out would have decided nothing."""
        if not (self.row.reschedules or self.policy.scaling.enabled or self.late):
            return False
        if not self.skips_rounds or self.state.sources or self.state.holes or len(self.queue):
            return True
        if now >= self.next_rehome_s and self.policy.queue.rehome:
            return True
        return not self.cluster.nobody_gives(now)

    def _stuck(self, now: float) -> None:
        """Nothing can happen but what a tick decides: who never places a request must not hang."""
        if now - self.idle_since_s > PATIENCE_S:
            names = sorted(self.waiting) or [profile.request_id for profile, _ in self.held]
            raise SimulationError(
                f"nothing has happened for {PATIENCE_S:g} s and {self.open} requests are open; "
                f"{self.policy.policy} places none of the waiting: {', '.join(names[:5]) or 'none waits'}"
            )

    def _hand_back(self, wanted: bool) -> None:
        """Told to the engines with the loop's next message; it changes rarely."""
        if wanted != self.rehoming:
            self.rehoming = wanted
            for member in self.cluster.members.values():
                member.engine.hand_back = wanted

    def _plan_ledger(self) -> Ledger:
        return self.cluster.ledger if self.row.in_flight_accounting else NO_LEDGER

    def _waiters(self) -> tuple[RequestProfile, ...]:
        first = self.queue.longest_waiting() if self.late and len(self.queue) else None
        return (first,) if first is not None else ()

    def _execute(self, decision: Decision, now: float) -> None:
        self.decisions += 1
        if isinstance(decision, Migrate):
            self.moves.command(decision, now)
        elif isinstance(decision, Hole):
            self.holes_opened += 1
        elif isinstance(decision, ScaleUp):
            for _ in range(decision.instances):
                self.cluster.starting += 1
                self.scale_events.append((now, "up", -1))
                self.events.push(now + self.config.boot_s, events.REPORT, self._booted, now)
        elif isinstance(decision, ScaleDown | Drain):
            self._drain(self.cluster.members[decision.instance_id], now, draining=True)
        elif isinstance(decision, Undrain):
            self._drain(self.cluster.members[decision.instance_id], now, draining=False)

    # ------------------------------------------------------------------ scaling

    def _booted(self, now: float, launched_s: float) -> None:
        self.cluster.starting -= 1
        self._start_instance(now, launched_s)
        if self.late and len(self.queue):
            self.cluster.refresh(now)
            self._walk(now)

    def _drain(self, member: Member, now: float, *, draining: bool) -> None:
        member.draining = member.snapshot.draining = draining
        self.scale_events.append((now, "drain" if draining else "undrain", member.engine.index))
        self.log.note(now, events.INSTANCE_DRAINS, int(draining), member.engine.index)
        if draining:
            self._retire(member, now)

    def _retire(self, member: Member, now: float) -> None:
        """A draining instance goes when nothing is left on it nor on its way to it."""
        if member.engine.empty and not member.moves and not self.cluster.ledger.in_flight(member.id)[1]:
            self.cluster.stop(member)
            self.instance_seconds += now - member.started_s
            self.scale_events.append((now, "down", member.engine.index))
            self.log.note(now, events.INSTANCE_DOWN, -1, member.engine.index)

    # ------------------------------------------------------------------ measuring

    def _sample(self, now: float) -> None:
        free = capacity = running = waiting = blocked = 0
        for member in self.cluster.members.values():
            engine = member.engine
            left = engine.free_blocks(now)
            free += left
            capacity += engine.capacity
            running += engine.running
            waiting += engine.waiting
            blocked += engine.blocked_head_blocks(now)
        if len(self.queue):
            waiting += len(self.queue)
            head = next(iter(self.queue))
            blocked += -(-head.tokens // self.config.latency.block_size_tokens)
        up = len(self.cluster.members) + self.cluster.starting
        fragmented = min(free, blocked) / capacity if capacity else 0.0
        used = 1.0 - free / capacity if capacity else 0.0
        self.samples.append(Sample(now, up, used, fragmented, running, waiting))

    def _result(self, cpu_s: float) -> SimulationResult:
        for member in self.cluster.members.values():
            self.instance_seconds += self.end_s - member.started_s
        self.records.sort(key=lambda record: record.request_id)
        return SimulationResult(
            records=self.records,
            samples=self.samples,
            migrations=self.moves.records,
            instance_seconds=self.instance_seconds,
            end_s=self.end_s,
            events_sha256=self.log.sha256(),
            steps=sum(member.engine.steps_total for member in self.cluster.everyone),
            cpu_s=cpu_s,
            decisions=self.decisions,
            scale_events=tuple(self.scale_events),
        )
