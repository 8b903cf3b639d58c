"""A simulated engine: continuous batching, block accounting and a latency model; time is an argument.

Two batching modes:

``vllm_2023``
    As the engine of the Llumnix paper: a step is either the prefill of what the
    waiting queue's head lets in, or one decode step of the whole batch. Admission is
    strictly in queue order and leaves a watermark free; before a sequence appends a
    token one block must be free, else the latest arrival of the lowest priority is
    pre-empted and recomputed later (prompt and tokens so far) from the queue's front.
``vllm_v1``
    Chunked prefill: every step has a token budget; decodes take one token each, what
    is left goes to prompts in pieces.

The engine jumps over uneventful decode steps in closed form (``decode_batch.py``); a
step-by-step run (``jump=False``) gives the same history and is what tests compare with.

A driver calls :meth:`SimulatedEngine.add` and the migration methods at any time and
:meth:`SimulatedEngine.on_time` at :attr:`SimulatedEngine.wake_s`. What a status report
would say at any moment comes from :attr:`SimulatedEngine.reports`.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from math import inf

from engine_agents.engines.decode_batch import DecodeBatch, Sequence, allocated
from engine_agents.engines.reporting import Reports
from engine_agents.engines.segment import Coefficients, Report, Segment

__all__ = ["MODES", "Coefficients", "Report", "Sequence", "SimulatedEngine"]

MODES = ("vllm_2023", "vllm_v1")


def _nothing(*_: object) -> None:
    return None


class SimulatedEngine:
    """One simulated instance. ``index`` is the driver's number for it."""

    def __init__(
        self,
        index: int,
        coefficients: Coefficients,
        *,
        mode: str = "vllm_2023",
        relative_speed: float = 1.0,
        watermark_share: float = 0.01,
        jump: bool = True,
        started_s: float = 0.0,
        class_use: Callable[[str, int, int], object] | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}; got {mode!r}")
        if relative_speed <= 0.0:
            raise ValueError(f"relative_speed must be positive, got {relative_speed}")
        self.index = index
        self.coefficients = coefficients
        self.mode = mode
        self.chunked = mode == "vllm_v1"
        self.jump = jump
        self.class_use = class_use
        self.track_classes = class_use is not None
        self.block_size = coefficients.block_size_tokens
        self.capacity = coefficients.capacity_blocks
        self.watermark = int(coefficients.capacity_blocks * watermark_share)
        self.max_batch_tokens = coefficients.max_batch_tokens
        self.max_batch_requests = coefficients.max_batch_requests
        self.chunk_budget_tokens = coefficients.chunk_budget_tokens
        self.relative_speed = relative_speed
        self._slow = 1.0 / relative_speed
        self.batch = DecodeBatch(self.block_size)
        self.free = self.capacity
        """Free blocks at the end of the step in progress, as far as already allocated."""
        self.reserved = 0
        self.hand_back = False
        """Pre-empted requests leave the engine (re-homing) instead of waiting here."""
        self.only_if_fits = False
        """Refuse a request that does not fit at once."""
        self.wake_s = inf
        self.steps_total = 0
        self.preemptions_total = 0
        self.seen_seq = -1
        self.changed = False
        """A segment began since the driver last looked (a report is coming)."""
        self.on_finished: Callable[[Sequence, float], None] = _nothing
        self.on_preempted: Callable[[Sequence, float], None] = _nothing
        self.on_frozen: Callable[[Sequence, float], None] = _nothing
        self._queue: list[tuple[int, int, Sequence]] = []
        self._queue_order = 0
        self._queued_blocks = 0
        self._preempted_waiting = 0
        self._prefilling: list[Sequence] = []
        self._incoming: list[Sequence] = []
        self._freezing: list[Sequence] = []
        self._per_class: dict[str, list[int]] = {}
        idle = Segment(started_s, 0.0, 0.0, 1)
        self._describe(idle)
        self.reports = Reports(self.block_size, idle)
        self._current = idle

    # ------------------------------------------------------------------ requests

    @property
    def running(self) -> int:
        """Sequences that hold memory and make tokens."""
        return self.batch.size + len(self._prefilling)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def empty(self) -> bool:
        """Nothing runs, waits, or is about to arrive by migration."""
        return not (self.batch.size or self._queue or self._prefilling or self._incoming or self.reserved)

    def add(self, sequence: Sequence, now: float) -> bool:
        """Take a request into the queue; ``False`` (refused) only under ``only_if_fits``."""
        need = -(-(sequence.prompt_tokens + sequence.generated) // self.block_size)
        if self.only_if_fits and (
            self.free_blocks(now) - self._queued_blocks - need < self.watermark
            or self.running + len(self._queue) >= self.max_batch_requests
        ):
            return False
        sequence.engine = self
        sequence.visited.append(self.index)
        self._queue_order += 1
        self._enqueue(sequence, self._queue_order, need)
        self._interrupt(now)
        return True

    def _enqueue(self, sequence: Sequence, order: int, need: int) -> None:
        sequence.admitted_blocks = 0
        if sequence.preempted_at_s >= 0.0:
            self._preempted_waiting += 1
        insort(self._queue, (sequence.rank, order, sequence))
        self._queued_blocks += need
        if self.track_classes:
            self._count(sequence.slo_class, 1, 1)

    def abort(self, sequence: Sequence, now: float) -> bool:
        """Take a waiting request back out; ``False`` when it does not wait here."""
        for position, entry in enumerate(self._queue):
            if entry[2] is sequence:
                del self._queue[position]
                self._forget_waiting(sequence)
                sequence.engine = None
                self._interrupt(now)
                return True
        return False

    def _forget_waiting(self, sequence: Sequence) -> int:
        need = -(-(sequence.prompt_tokens + sequence.generated) // self.block_size)
        self._queued_blocks -= need
        if sequence.preempted_at_s >= 0.0:
            self._preempted_waiting -= 1
        if self.track_classes:
            self._count(sequence.slo_class, 1, -1)
        return need

    def _count(self, slo_class: str, which: int, change: int) -> None:
        counts = self._per_class.setdefault(slo_class, [0, 0])
        counts[which] += change

    def blocked_head_blocks(self, now: float) -> int:
        """Demand of the first waiting request when memory is what it waits for, else 0."""
        if not self._queue:
            return 0
        first = self._queue[0][2]
        need = -(-(first.prompt_tokens + first.generated) // self.block_size)
        return need if self.free_blocks(now) - need < self.watermark else 0

    # ------------------------------------------------------------------ migration

    def free_blocks(self, now: float) -> int:
        """Blocks free in the step in progress at ``now``."""
        segment = self._current
        if not segment.jump or segment.steps == 1:
            return self.free
        done = min(segment.steps_done(now), segment.steps - 1)
        return self.free - allocated(segment.buckets, segment.counter + 1, done, segment.size)

    def reserve(self, blocks: int, now: float) -> bool:
        """Hold ``blocks`` for an incoming migration; refused when they, or waiting requests, do not fit."""
        if self._queue or self.free_blocks(now) - blocks < self.watermark:
            return False
        return self.extend(blocks, now)

    def extend(self, blocks: int, now: float) -> bool:
        """Grow a reservation by ``blocks``; refused when they are not free."""
        if self.free_blocks(now) < blocks:
            return False
        self.free -= blocks
        self.reserved += blocks
        self._interrupt(now)
        return True

    def drop(self, blocks: int, now: float) -> None:
        """Free a reservation that will not be used."""
        self.free += blocks
        self.reserved -= blocks
        self._interrupt(now)

    def tokens_of(self, sequence: Sequence, now: float) -> int:
        """Context of a request here at ``now``: prompt and what it has generated."""
        if not sequence.decoding:
            return sequence.prompt_tokens + sequence.generated
        segment = self._current
        return self.batch.length(sequence) + (segment.steps_done(now) if segment.jump else 0)

    def freeze(self, sequence: Sequence, now: float) -> bool:
        """Take it out of the batch at the end of the step in progress (``on_frozen`` says when)."""
        if not sequence.decoding or sequence.engine is not self:
            return False
        self._freezing.append(sequence)
        self._interrupt(now)
        return True

    def release(self, sequence: Sequence, now: float) -> None:
        """Forget a frozen request: it lives elsewhere now."""
        self.free += sequence.admitted_blocks
        sequence.admitted_blocks = 0
        self._interrupt(now)

    def thaw(self, sequence: Sequence, now: float) -> None:
        """A frozen request goes on here from the next step on."""
        self._incoming.append(sequence)
        self._interrupt(now)

    def adopt(self, sequence: Sequence, blocks: int, now: float) -> None:
        """It runs here from the next step on, in ``blocks`` reserved ones."""
        held = (sequence.prompt_tokens + sequence.generated - 2) // self.block_size + 1
        self.reserved -= blocks
        self.free += blocks - held
        sequence.engine = self
        sequence.visited.append(self.index)
        sequence.admitted_blocks = held
        self._incoming.append(sequence)
        self._interrupt(now)

    def movable(self) -> list[Sequence]:
        """Requests in their decoding stage."""
        return list(self.batch.members.values())

    # ------------------------------------------------------------------ time

    def _interrupt(self, now: float) -> None:
        """End the present stretch with the step in progress: the next schedule shall see what changed."""
        segment = self._current
        if self.wake_s == inf:
            self._begin(now)
        elif segment.steps > 1:
            done = segment.steps_done(now)
            if done + 1 < segment.steps:
                segment.steps = done + 1
                segment.end_s = segment.end_of(segment.steps)
                self.wake_s = segment.end_s

    def on_time(self, now: float) -> None:
        """The present stretch ends now: hand out what came of it, schedule the next."""
        segment = self._current
        steps = segment.steps
        self.steps_total += steps
        if segment.jump:
            if steps > 1:
                self.free -= allocated(segment.buckets, segment.counter + 1, steps - 1, segment.size)
            self.batch.advance(steps)
            for sequence in self.batch.pop_finished():
                held = (sequence.prompt_tokens + sequence.output_tokens - 2) // self.block_size + 1
                self._finish(sequence, held, now)
        if self._prefilling:
            self._end_prefill(now)
        self._begin(now)

    def _finish(self, sequence: Sequence, blocks: int, now: float) -> None:
        self.free += blocks
        sequence.finished_s = now
        sequence.engine = None
        if self.track_classes:
            self._count(sequence.slo_class, 0, -1)
        self.on_finished(sequence, now)

    def _first_token(self, sequence: Sequence, now: float) -> None:
        sequence.generated += 1
        if sequence.first_token_s < 0.0:
            sequence.first_token_s = now
        if sequence.preempted_at_s >= 0.0:
            sequence.preemption_loss_s += now - sequence.preempted_at_s
            sequence.preempted_at_s = -1.0

    def _end_prefill(self, now: float) -> None:
        still: list[Sequence] = []
        for sequence in self._prefilling:
            if sequence.computed_tokens < sequence.prompt_tokens + sequence.generated:
                still.append(sequence)
                continue
            self._first_token(sequence, now)
            if sequence.generated >= sequence.output_tokens:
                self._finish(sequence, sequence.admitted_blocks, now)
            else:
                self.batch.join(sequence)
        self._prefilling = still

    def _begin(self, now: float) -> None:
        """Between two steps: carry out what was asked meanwhile, then schedule."""
        if self._freezing:
            self._freeze_now(now)
        if self._incoming:
            for sequence in self._incoming:
                self.batch.join(sequence)
                if self.track_classes:
                    self._count(sequence.slo_class, 0, 1)
            self._incoming.clear()
        segment = self._schedule_chunked(now) if self.chunked else self._schedule_2023(now)
        self._describe(segment)
        self.reports.begin(segment)
        self._current = segment
        self.wake_s = segment.end_s if segment.a > 0.0 else inf
        self.changed = True

    def _freeze_now(self, now: float) -> None:
        asked, self._freezing = self._freezing, []
        for sequence in asked:
            if sequence.decoding and sequence.engine is self:
                sequence.admitted_blocks = self.batch.held_blocks(sequence)
                self.batch.leave(sequence)
                sequence.last_token_s = now
                if self.track_classes:
                    self._count(sequence.slo_class, 0, -1)
            self.on_frozen(sequence, now)

    # ------------------------------------------------------------------ scheduling, 2023

    def _schedule_2023(self, now: float) -> Segment:
        if self._queue:
            segment = self._admit_2023(now)
            if segment is not None:
                return segment
        if not self.batch.size:
            return Segment(now, 0.0, 0.0, 1)
        return self._decode(now)

    def _admit_2023(self, now: float) -> Segment | None:
        """Prefill what the head of the queue lets in, strictly in order."""
        tokens = squares = 0
        queue, admitted = self._queue, self._prefilling
        while queue:
            sequence = queue[0][2]
            length = sequence.prompt_tokens + sequence.generated
            need = -(-length // self.block_size)
            if (
                self.free - need < self.watermark
                or (tokens and tokens + length > self.max_batch_tokens)
                or self.batch.size + len(admitted) >= self.max_batch_requests
            ):
                break
            del queue[0]
            self._forget_waiting(sequence)
            if self.track_classes:
                self._count(sequence.slo_class, 0, 1)
            self.free -= need
            sequence.admitted_blocks = need
            sequence.computed_tokens = length
            admitted.append(sequence)
            tokens += length
            squares += length * length
        if not tokens:
            return None
        model = self.coefficients
        duration = (model.prefill_a + model.prefill_b * tokens + model.prefill_c * squares) * self._slow
        segment = Segment(now, duration, 0.0, 1)
        segment.unprefilled = tokens
        return segment

    def _decode(self, now: float) -> Segment:
        """As many decode steps as are certain: until the first finish or the last safe block."""
        batch = self.batch
        limit = batch.steps_to_finish() if self.jump else 1
        steps = batch.safe_steps(self.free, limit)
        if steps:
            self.free -= batch.due_now()
        else:
            self._append_one_by_one(now)
            steps = 1
            if not batch.size:
                return self._schedule_2023(now)
        model, size = self.coefficients, batch.size
        first = (model.decode_a + model.decode_b * size + model.decode_c * batch.context) * self._slow
        segment = Segment(now, first, model.decode_c * size * self._slow, steps)
        segment.jump = True
        return segment

    def _append_one_by_one(self, now: float) -> None:
        """One step's blocks, in order of arrival; who finds none free costs the last one its place."""
        batch, block_size = self.batch, self.block_size
        need_one = 0 if self.chunked else 1
        order = sorted(batch.members.values(), key=lambda s: (s.rank, s.arrived_at_s, s.number))
        position = 0
        while position < len(order):
            sequence = order[position]
            due = 1 if (batch.length(sequence) - 1) % block_size == 0 else 0
            if self.free >= max(due, need_one):
                self.free -= due
                position += 1
            elif self._prefilling:
                self._preempt_prefill(now)
            else:
                self._preempt(order.pop(), now)

    def _preempt_prefill(self, now: float) -> None:
        """Half-done prompts came last, so they go first."""
        sequence = self._prefilling.pop()
        self.free += sequence.admitted_blocks
        self._lost(sequence, now)

    def _preempt(self, sequence: Sequence, now: float) -> None:
        """Its cache is lost, its tokens are not."""
        self.free += self.batch.held_blocks(sequence)
        self.batch.leave(sequence)
        self._lost(sequence, now)

    def _lost(self, sequence: Sequence, now: float) -> None:
        sequence.preemptions += 1
        sequence.preempted_at_s = now
        self.preemptions_total += 1
        if self.track_classes:
            self._count(sequence.slo_class, 0, -1)
        if self.hand_back:
            sequence.engine = None
        else:
            need = -(-(sequence.prompt_tokens + sequence.generated) // self.block_size)
            self._queue_order += 1
            self._enqueue(sequence, -self._queue_order, need)
        self.on_preempted(sequence, now)

    # ------------------------------------------------------------------ scheduling, chunked

    def _schedule_chunked(self, now: float) -> Segment:
        """One step under the token budget, or a jump when only decodes can run."""
        batch = self.batch
        if not self._prefilling and not (self._queue and self._head_fits()):
            return self._decode(now) if batch.size else Segment(now, 0.0, 0.0, 1)
        preempted_before = self.preemptions_total
        if batch.size:
            if batch.safe_steps(self.free, 1):
                self.free -= batch.due_now()
            else:
                self._append_one_by_one(now)
        budget = self.chunk_budget_tokens - batch.size
        tokens = products = 0
        for sequence in self._prefilling:
            before = sequence.computed_tokens
            chunk = self._chunk(sequence, budget - tokens)
            tokens += chunk
            products += chunk * before
        if self.preemptions_total == preempted_before:
            tokens = self._admit_chunked(tokens, budget)
        return self._mixed(now, tokens, products // tokens if tokens else 0)

    def _head_fits(self) -> bool:
        head = self._queue[0][2]
        need = -(-(head.prompt_tokens + head.generated) // self.block_size)
        return self.free - need >= self.watermark and self.running < self.max_batch_requests

    def _admit_chunked(self, tokens: int, budget: int) -> int:
        """Let in whose whole prompt fits, while the budget lasts; returns the step's prompt tokens."""
        while self._queue and tokens < budget and self._head_fits():
            sequence = self._queue.pop(0)[2]
            self._forget_waiting(sequence)
            if self.track_classes:
                self._count(sequence.slo_class, 0, 1)
            sequence.computed_tokens = 0
            self._prefilling.append(sequence)
            tokens += self._chunk(sequence, budget - tokens)
        return tokens

    def _chunk(self, sequence: Sequence, budget: int) -> int:
        """Give a prompt its next piece; 0 when neither budget nor memory allows one token."""
        length = sequence.prompt_tokens + sequence.generated
        room = (sequence.admitted_blocks + self.free) * self.block_size - sequence.computed_tokens
        chunk = max(0, min(length - sequence.computed_tokens, budget, room))
        if chunk:
            need = -(-(sequence.computed_tokens + chunk) // self.block_size) - sequence.admitted_blocks
            self.free -= need
            sequence.admitted_blocks += need
            sequence.computed_tokens += chunk
        return chunk

    def _mixed(self, now: float, tokens: int, context: int) -> Segment:
        batch = self.batch
        if not tokens and not batch.size:
            if len(self._prefilling) < 2:
                return Segment(now, 0.0, 0.0, 1)
            self._preempt_prefill(now)
            return self._schedule_chunked(now)
        duration = self.coefficients.mixed_s(tokens, context, batch.size, batch.context) * self._slow
        segment = Segment(now, duration, 0.0, 1)
        segment.jump = batch.size > 0
        segment.unprefilled = sum(s.prompt_tokens + s.generated - s.computed_tokens for s in self._prefilling)
        return segment

    # ------------------------------------------------------------------ reports

    def _describe(self, segment: Segment) -> None:
        """Note what a report on this stretch will say."""
        batch, queue = self.batch, self._queue
        segment.blocks = self.capacity - self.free - self.reserved
        segment.reserved = self.reserved
        segment.counter = batch.counter
        segment.size = batch.size
        segment.buckets = batch.buckets[:] if segment.jump else batch.buckets
        segment.running = batch.size + len(self._prefilling)
        segment.waiting = len(queue)
        if queue:
            first = queue[0][2]
            segment.head = -(-(first.prompt_tokens + first.generated) // self.block_size)
        else:
            segment.head = 0
        segment.queued = self._queued_blocks
        segment.preempted = self._preempted_waiting
        segment.seen = self.seen_seq
        use = self.class_use
        segment.classes = (
            tuple(use(name, c[0], c[1]) for name, c in self._per_class.items()) if use is not None else ()
        )

    def first_report_s(self) -> float:
        """When the present stretch is first reported: at the end of its first step."""
        return self._current.first_end_s
