"""How good could any scheduling be? Two bounds to stand beside every comparison.

*Empty cluster*: every request alone on an instance. Its prefill is the prompt's own; no
scheduling can be faster on the same engine.

*Pooled memory*: the instances keep their own compute but share one memory, so nothing is
ever fragmented or on the wrong instance. First come, first served (or ordered by arrival
plus ``beta`` per prompt token), to the server with the fewest requests. When growth
overfills the pool, the latest arrival of the server whose turn it is goes back to the
queue; between turns the pool may run over, which errs on the bound's side.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from math import ceil

from controlplane.simulator.latency import LatencyModel
from controlplane.simulator.metrics import ServiceMetrics, SloTarget, measure
from controlplane.simulator.workloads import SimRequest, Workload


@dataclass(slots=True)
class BoundRecord:
    """One request as a bound serves it (the fields that metrics read)."""

    slo_class: str
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    first_token_s: float = 0.0
    finished_s: float = 0.0
    preemptions: int = 0
    preemption_loss_s: float = 0.0
    migrations: int = 0
    downtime_s: float = 0.0

    @classmethod
    def of(cls, request: SimRequest) -> BoundRecord:
        return cls(request.slo_class, request.arrival_s, request.prompt_tokens, request.output_tokens)


def empty_cluster(
    workload: Workload, latency: LatencyModel, chunked: bool = False, slos: dict[str, SloTarget] | None = None
) -> ServiceMetrics:
    """Every request alone; ``chunked`` prefills in chunks of the engine's budget."""
    records = [BoundRecord.of(request) for request in workload.requests]
    for record in records:
        prefill_s = _alone_prefill_s(latency, record.prompt_tokens, chunked)
        record.first_token_s = record.arrival_s + prefill_s
        record.finished_s = record.first_token_s + _alone_decode_s(latency, record)
    return measure(records, slos)


def _alone_prefill_s(latency: LatencyModel, prompt_tokens: int, chunked: bool) -> float:
    if not chunked:
        return latency.prefill_s(prompt_tokens)
    budget = latency.chunk_budget_tokens
    chunks = range(0, prompt_tokens, budget)
    return sum(latency.mixed_s(min(budget, prompt_tokens - done), done, 0, 0) for done in chunks)


def _alone_decode_s(latency: LatencyModel, record: BoundRecord) -> float:
    steps = record.output_tokens - 1
    context = steps * (record.prompt_tokens + 1) + steps * (steps - 1) // 2
    return steps * (latency.decode_a + latency.decode_b) + latency.decode_c * context


def pooled_memory(
    workload: Workload,
    latency: LatencyModel,
    servers: int,
    beta_s_per_token: float = 0.0,
    slos: dict[str, SloTarget] | None = None,
) -> ServiceMetrics:
    """One memory for ``servers`` engines of 2023 (prompts first, no chunks).

    Requests that the whole pool cannot hold are left out.
    """
    if servers < 1:
        raise ValueError(f"servers must be at least 1, got {servers}")
    return measure(_Pool(workload, latency, servers, beta_s_per_token).run(), slos)


@dataclass(slots=True)
class _Running:
    record: BoundRecord
    generated: int = 0
    preempted_at_s: float | None = None

    @property
    def tokens(self) -> int:
        return self.record.prompt_tokens + self.generated


@dataclass(slots=True)
class _Server:
    """One engine: what it does from ``started_s`` to ``ends_s`` is one stretch of equal steps."""

    decoding: list[_Running] = field(default_factory=list)
    assigned: list[_Running] = field(default_factory=list)
    """Prompts that were given to this server and are not yet in a step."""
    prefilling: list[_Running] = field(default_factory=list)
    steps: int = 0
    started_s: float = 0.0
    ends_s: float = 0.0
    busy: bool = False
    version: int = 0
    """Events of an older version are stale: the stretch was cut short."""
    tokens_at_start: int = 0

    def tokens(self, now: float) -> float:
        """Tokens in memory; growth within the stretch is taken as even."""
        span = self.ends_s - self.started_s
        done = (now - self.started_s) / span if self.busy and span > 0 else 0.0
        return self.tokens_at_start + len(self.decoding) * self.steps * done

    def load(self) -> int:
        return len(self.decoding) + len(self.assigned) + len(self.prefilling)


class _Pool:
    """Servers, their common memory and the queue before it."""

    def __init__(self, workload: Workload, latency: LatencyModel, servers: int, beta: float) -> None:
        self.latency = latency
        self.servers = [_Server() for _ in range(servers)]
        self.capacity_tokens = 0.99 * servers * latency.capacity_tokens
        self.records = [
            BoundRecord.of(request)
            for request in workload.requests
            if request.prompt_tokens + request.output_tokens <= self.capacity_tokens
        ]
        self.beta = beta
        self.queue: list[tuple[float, int, _Running]] = []
        self.events: list[tuple[float, int, int, int]] = []
        """(time, 0 arrival or 1 end of a stretch, number, version)."""
        self.queued = 0

    def run(self) -> list[BoundRecord]:
        self.events = [(record.arrival_s, 0, n, 0) for n, record in enumerate(self.records)]
        heapq.heapify(self.events)
        while self.events:
            now, kind, number, version = heapq.heappop(self.events)
            if kind == 0:
                self._enqueue(_Running(self.records[number]))
            elif self.servers[number].version == version:
                self._end_stretch(number, now)
            else:
                continue
            self._place(now)
        return self.records

    def _enqueue(self, request: _Running) -> None:
        record = request.record
        self.queued += 1
        heapq.heappush(
            self.queue, (record.arrival_s + self.beta * record.prompt_tokens, self.queued, request)
        )

    def _place(self, now: float) -> None:
        """Give the head of the queue to the least loaded server while the pool has room for it."""
        if not self.queue:
            return
        used = sum(server.tokens(now) for server in self.servers)
        while self.queue and used + self.queue[0][2].tokens <= self.capacity_tokens:
            request = heapq.heappop(self.queue)[2]
            used += request.tokens
            number = min(range(len(self.servers)), key=lambda n: (self.servers[n].load(), n))
            server = self.servers[number]
            server.assigned.append(request)
            server.tokens_at_start += request.tokens
            if server.busy:
                self._cut_short(number, now)
            else:
                self._start_stretch(number, now)

    def _cut_short(self, number: int, now: float) -> None:
        """End a stretch of decode steps at the step under way."""
        server = self.servers[number]
        if server.prefilling or server.steps <= 1:
            return
        step_s = (server.ends_s - server.started_s) / server.steps
        steps = min(server.steps, max(1, ceil((now - server.started_s) / step_s)))
        if steps < server.steps:
            server.ends_s = server.started_s + step_s * steps
            server.steps = steps
            self._announce(number)

    def _announce(self, number: int) -> None:
        server = self.servers[number]
        server.version += 1
        heapq.heappush(self.events, (server.ends_s, 1, number, server.version))

    def _start_stretch(self, number: int, now: float) -> None:
        server = self.servers[number]
        server.busy = bool(server.assigned or server.decoding)
        if not server.busy:
            return
        server.started_s = now
        server.ends_s = now + (self._start_prefill(server) if server.assigned else self._start_decode(server))
        self._announce(number)

    def _start_prefill(self, server: _Server) -> float:
        server.steps = 0
        tokens = squares = 0
        limit = self.latency.max_batch_tokens
        while server.assigned and (not tokens or tokens + server.assigned[0].tokens <= limit):
            request = server.assigned.pop(0)
            server.prefilling.append(request)
            tokens += request.tokens
            squares += request.tokens * request.tokens
        return self.latency.prefill_batch_s(tokens, squares)

    def _start_decode(self, server: _Server) -> float:
        batch = server.decoding
        server.steps = min(r.record.output_tokens - r.generated for r in batch)
        context = sum(r.tokens for r in batch)
        mean_context = context + len(batch) * (server.steps - 1) // 2
        return server.steps * self.latency.decode_s(len(batch), mean_context)

    def _end_stretch(self, number: int, now: float) -> None:
        server = self.servers[number]
        for request in server.decoding:
            request.generated += server.steps
        for request in server.prefilling:
            self._first_token(request, now)
        server.decoding += server.prefilling
        server.prefilling = []
        self._retire(server, now)
        server.tokens_at_start = sum(r.tokens for r in server.decoding) + sum(
            r.tokens for r in server.assigned
        )
        server.steps = 0
        server.busy = False
        self._evict(server, now)
        self._start_stretch(number, now)

    @staticmethod
    def _first_token(request: _Running, now: float) -> None:
        if request.generated == 0:
            request.record.first_token_s = now
        if request.preempted_at_s is not None:
            request.record.preemption_loss_s += now - request.preempted_at_s
            request.preempted_at_s = None
        request.generated += 1

    @staticmethod
    def _retire(server: _Server, now: float) -> None:
        for request in server.decoding:
            if request.generated >= request.record.output_tokens:
                request.record.finished_s = now
        server.decoding = [r for r in server.decoding if r.generated < r.record.output_tokens]

    def _evict(self, server: _Server, now: float) -> None:
        """While the pool runs over, this server's latest arrivals go back to the queue."""
        over = sum(each.tokens(now) for each in self.servers) - self.capacity_tokens / 0.99
        while over > 0 and len(server.decoding) > 1:
            victim = max(server.decoding, key=lambda r: r.record.arrival_s)
            server.decoding.remove(victim)
            server.tokens_at_start -= victim.tokens
            over -= victim.tokens
            victim.record.preemptions += 1
            victim.preempted_at_s = now
            self._enqueue(victim)
