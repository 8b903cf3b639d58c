"""A batch of decoding sequences in closed form: what k steps do, without doing them.

Every decode step gives every sequence one token. So one counter per engine is
enough: a sequence stores ``base = counter - generated`` when it joins, and what it
generated, its length and its blocks follow from the counter. Three more facts make
any number of uneventful steps O(1):

- the next finisher is the head of a heap of finishing counters;
- sequences fall into ``block_size`` *residue buckets* by the step on which they cross
  into a new block: a step allocates exactly one bucket, ``block_size`` steps allocate
  one block per sequence;
- the context grows by the batch size each step, so step lengths are an arithmetic
  series.
"""

from __future__ import annotations

import heapq


class Sequence:
    """One request inside a simulated engine. Token counts; times in seconds of virtual time."""

    __slots__ = (
        "admitted_blocks",
        "arrived_at_s",
        "base",
        "computed_tokens",
        "decoding",
        "downtime_s",
        "engine",
        "finished_s",
        "first_token_s",
        "generated",
        "last_token_s",
        "leaving",
        "migrations",
        "number",
        "output_tokens",
        "preempted_at_s",
        "preemption_loss_s",
        "preemptions",
        "prompt_tokens",
        "rank",
        "request_id",
        "slo_class",
        "ticket",
        "visited",
    )

    def __init__(
        self,
        number: int,
        prompt_tokens: int,
        output_tokens: int,
        arrived_at_s: float,
        slo_class: str = "standard",
        rank: int = 1,
    ) -> None:
        self.number = number
        self.request_id = str(number)
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.arrived_at_s = arrived_at_s
        self.slo_class = slo_class
        self.rank = rank
        self.generated = 0
        """Output tokens so far; while it decodes, ``counter - base`` holds instead."""
        self.base = 0
        self.ticket = -1
        """Number of its present stay in a batch; -1 while in none."""
        self.decoding = False
        self.computed_tokens = 0
        """Chunked prefill: tokens whose KV is computed so far."""
        self.admitted_blocks = 0
        self.leaving = False
        self.engine: object = None
        self.first_token_s = -1.0
        self.finished_s = -1.0
        self.last_token_s = -1.0
        self.preempted_at_s = -1.0
        self.preemption_loss_s = 0.0
        self.preemptions = 0
        self.migrations = 0
        self.downtime_s = 0.0
        self.visited: list[int] = []
        """Engines that held it, in order."""


class DecodeBatch:
    """Sequences that decode together on one engine."""

    __slots__ = ("_finishing", "_tickets", "block_size", "buckets", "context", "counter", "members", "size")

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.counter = 0
        """Decode steps this engine ever made."""
        self.size = 0
        self.context = 0
        """Sum of lengths (prompt + generated) before the next step."""
        self.buckets = [0] * block_size
        """``buckets[counter % block_size]`` sequences need a new block at the step of that counter."""
        self.members: dict[int, Sequence] = {}
        self._finishing: list[tuple[int, int, Sequence]] = []
        self._tickets = 0

    def join(self, sequence: Sequence) -> None:
        """It decodes from the next step on; ``sequence.generated`` tokens are made."""
        base = self.counter - sequence.generated
        sequence.base = base
        sequence.decoding = True
        ticket = self._tickets = self._tickets + 1
        sequence.ticket = ticket
        self.members[ticket] = sequence
        self.size += 1
        self.context += sequence.prompt_tokens + sequence.generated
        self.buckets[(1 + base - sequence.prompt_tokens) % self.block_size] += 1
        heapq.heappush(self._finishing, (base + sequence.output_tokens, ticket, sequence))

    def leave(self, sequence: Sequence) -> None:
        """It stops decoding here; ``sequence.generated`` is brought up to date."""
        base = sequence.base
        sequence.generated = generated = self.counter - base
        sequence.decoding = False
        del self.members[sequence.ticket]
        sequence.ticket = -1
        self.size -= 1
        self.context -= sequence.prompt_tokens + generated
        self.buckets[(1 + base - sequence.prompt_tokens) % self.block_size] -= 1

    def length(self, sequence: Sequence) -> int:
        """Prompt and generated tokens of a member."""
        return sequence.prompt_tokens + self.counter - sequence.base

    def held_blocks(self, sequence: Sequence) -> int:
        """Blocks of a member between two steps: its newest token has no KV yet."""
        return (sequence.prompt_tokens + self.counter - sequence.base - 2) // self.block_size + 1

    def advance(self, steps: int) -> None:
        """``steps`` decode steps were made."""
        self.counter += steps
        self.context += steps * self.size

    def steps_to_finish(self) -> int:
        """Steps until the first member finishes."""
        heap, members = self._finishing, self.members
        while heap[0][1] not in members:
            heapq.heappop(heap)
        return heap[0][0] - self.counter

    def pop_finished(self) -> list[Sequence]:
        """Members that have made their last token, taken out of the batch."""
        heap, counter = self._finishing, self.counter
        done: list[Sequence] = []
        while heap and heap[0][0] <= counter:
            _, ticket, sequence = heapq.heappop(heap)
            if ticket in self.members:
                self.leave(sequence)
                done.append(sequence)
        return done

    def due_now(self) -> int:
        """Blocks the next step allocates."""
        return self.buckets[self.counter % self.block_size]

    def safe_steps(self, free: int, limit: int) -> int:
        """How many of the next ``limit`` steps, all in a row, leave at least one of ``free`` blocks."""
        block_size, size = self.block_size, self.size
        if size * (-(-limit // block_size)) < free:
            return limit
        if free < 1:
            return 0
        cycles = (free - 1) // size
        steps = cycles * block_size
        left = free - 1 - cycles * size
        position = self.counter + steps
        while steps < limit:
            left -= self.buckets[position % block_size]
            if left < 0:
                break
            steps += 1
            position += 1
        return min(steps, limit)


def allocated(buckets: list[int], first: int, steps: int, size: int) -> int:
    """Blocks that ``steps`` decode steps allocate, the first at counter ``first``."""
    block_size = len(buckets)
    cycles, rest = divmod(steps, block_size)
    total = cycles * size
    if rest:
        start = first % block_size
        end = start + rest
        if end <= block_size:
            total += sum(buckets[start:end])
        else:
            total += sum(buckets[start:]) + sum(buckets[: end - block_size])
    return total
