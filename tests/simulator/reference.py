"""A plain engine of 2023 and two ways to dispatch, written a second time and step by step.

No jumps, no shared code with the product's engine nor with its policies: every sequence
is touched in every step. It says what the fast engine has to find: records, number of
steps, pre-emptions.

Semantics (vLLM 0.1.x): prompts first; first come, first served; a prompt enters when its
blocks fit beside the watermark; a decode step asks for one free block before every
append; the victim is the latest arrival, goes to the front of the queue and is
recomputed with the tokens it has made. What an instance reports at the end of a step is
its state at the step's start, after the batch was chosen.
"""

import heapq
from dataclasses import dataclass, field

from controlplane.simulator.latency import LatencyModel


@dataclass(slots=True)
class Sequence:
    request_id: int
    arrival_s: float
    prompt: int
    output: int
    generated: int = 0
    blocks: int = 0
    first_token_s: float = 0.0
    finished_s: float = 0.0
    preempted_at_s: float | None = None
    preemptions: int = 0
    preemption_loss_s: float = 0.0

    @property
    def length(self):
        return self.prompt + self.generated


@dataclass(slots=True)
class Instance:
    latency: LatencyModel
    free: int
    waiting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    batch: list[Sequence] = field(default_factory=list)
    busy: bool = False
    steps: int = 0
    dispatched: int = 0
    reported: tuple[int, int, int] = (0, 0, 0)
    """(blocks in use, requests, blocks that the queue demands), as last reported."""
    at_start: tuple[int, int, int] = (0, 0, 0)

    def blocks_of(self, tokens):
        return -(-tokens // self.latency.block_size_tokens)

    def watermark(self):
        return int(0.01 * self.latency.capacity_blocks)

    def state(self):
        queued = sum(self.blocks_of(s.length) for s in self.waiting)
        used = self.latency.capacity_blocks - self.free
        return used, len(self.running) + len(self.waiting), queued

    def freeness(self):
        """INFaaS++ on the last report: room, the whole queue's demand subtracted, per request."""
        used, requests, queued = self.reported
        return (0.99 * self.latency.capacity_blocks - used - queued) / (requests or 1)

    def start_step(self, now):
        """Choose the batch; returns when the step ends, or None when there is nothing to do."""
        prompts = self._admit()
        if prompts:
            self.batch = prompts
            tokens = [s.length for s in prompts]
            took = self.latency.prefill_batch_s(sum(tokens), sum(n * n for n in tokens))
        elif self.running:
            self._append_slots(now)
            self.batch = list(self.running)
            took = self.latency.decode_s(len(self.batch), sum(s.length for s in self.batch))
        else:
            self.reported = self.state()
            return None
        self.steps += 1
        self.at_start = self.state()
        return now + took

    def end_step(self, now):
        """One token for each of the batch."""
        self.reported = self.at_start
        for s in self.batch:
            s.generated += 1
            if s.generated == 1:
                s.first_token_s = now
            if s.preempted_at_s is not None:
                s.preemption_loss_s += now - s.preempted_at_s
                s.preempted_at_s = None
            if s.generated >= s.output:
                s.finished_s = now
                self.running.remove(s)
                self.free += s.blocks

    def _admit(self):
        admitted, tokens = [], 0
        while self.waiting:
            head = self.waiting[0]
            need = self.blocks_of(head.length)
            if self.free - need < self.watermark():
                break
            if tokens + head.length > self.latency.max_batch_tokens:
                break
            if len(self.running) >= self.latency.max_batch_requests:
                break
            self.waiting.pop(0)
            self.free -= need
            head.blocks = need
            tokens += head.length
            self.running.append(head)
            admitted.append(head)
        self.running.sort(key=lambda s: s.arrival_s)
        return admitted

    def _append_slots(self, now):
        index = 0
        while index < len(self.running):
            s = self.running[index]
            while self.free < 1 and self.running[-1] is not s:
                self._preempt(now)
            if self.free < 1:
                self._preempt(now)
                return
            need = self.blocks_of(s.length) - s.blocks
            self.free -= need
            s.blocks += need
            index += 1

    def _preempt(self, now):
        victim = self.running.pop()
        self.free += victim.blocks
        victim.blocks = 0
        victim.preemptions += 1
        victim.preempted_at_s = now
        self.waiting.insert(0, victim)


@dataclass(slots=True)
class ReferenceResult:
    sequences: list[Sequence]
    steps: int


def round_robin(instance):
    return -instance.dispatched


def infaas(instance):
    return instance.freeness()


def simulate_reference(workload, latency, instances, score):
    """Each request goes at once to the instance with the greatest ``score``, the lowest number on a tie."""
    fleet = [Instance(latency, latency.capacity_blocks) for _ in range(instances)]
    sequences = [
        Sequence(r.request_id, r.arrival_s, r.prompt_tokens, r.output_tokens) for r in workload.requests
    ]
    events: list[tuple[float, int]] = []
    arrivals = iter(sequences)
    upcoming = next(arrivals, None)
    while upcoming is not None or events:
        if upcoming is not None and (not events or upcoming.arrival_s < events[0][0]):
            chosen = max(range(instances), key=lambda i: (score(fleet[i]), -i))
            fleet[chosen].waiting.append(upcoming)
            fleet[chosen].dispatched += 1
            now, upcoming = upcoming.arrival_s, next(arrivals, None)
            if fleet[chosen].busy:
                continue
        else:
            now, chosen = heapq.heappop(events)
            fleet[chosen].end_step(now)
        end = fleet[chosen].start_step(now)
        fleet[chosen].busy = end is not None
        if end is not None:
            heapq.heappush(events, (end, chosen))
    return ReferenceResult(sequences, sum(instance.steps for instance in fleet))
