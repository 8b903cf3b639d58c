"""Stretches of a simulated engine's time, and the ports it reads and reports through.

A :class:`Segment` is one or more steps with a constant batch: a prefill, a run of
decode steps, or idleness. Its step ends follow in closed form.
"""

from __future__ import annotations

from itertools import accumulate
from math import sqrt
from typing import Any, Protocol


class Coefficients(Protocol):
    """What the engine reads of a latency model; seconds, tokens and blocks."""

    @property
    def prefill_a(self) -> float: ...
    @property
    def prefill_b(self) -> float: ...
    @property
    def prefill_c(self) -> float: ...
    @property
    def decode_a(self) -> float: ...
    @property
    def decode_b(self) -> float: ...
    @property
    def decode_c(self) -> float: ...
    @property
    def capacity_blocks(self) -> int: ...
    @property
    def block_size_tokens(self) -> int: ...
    @property
    def max_batch_tokens(self) -> int: ...
    @property
    def max_batch_requests(self) -> int: ...
    @property
    def chunk_budget_tokens(self) -> int: ...

    def mixed_s(self, prefill_tokens: int, prefill_context: int, batch: int, context: int) -> float:
        """Duration of a step that mixes prompt chunks and decodes."""


class Report(Protocol):
    """Where :meth:`SimulatedEngine.report` writes; names as in the control plane's instance snapshot."""

    used_tokens: int
    reserved_tokens: int
    running: int
    waiting: int
    head_of_line_tokens: int
    queued_tokens: int
    unprefilled_tokens: int
    preempted: int
    classes: Any


class Segment:
    """Steps with a constant batch; what a report on them says is noted at their start."""

    __slots__ = (
        "a",
        "b",
        "blocks",
        "buckets",
        "classes",
        "counter",
        "end_s",
        "first_end_s",
        "grown",
        "half",
        "half_squared",
        "head",
        "jump",
        "preempted",
        "queued",
        "reserved",
        "running",
        "seen",
        "size",
        "start_s",
        "steps",
        "unprefilled",
        "waiting",
    )
    blocks: int
    buckets: list[int]
    classes: tuple[object, ...]
    counter: int
    head: int
    preempted: int
    queued: int
    reserved: int
    running: int
    seen: int
    size: int
    waiting: int

    def __init__(self, start_s: float, a: float, b: float, steps: int) -> None:
        self.start_s = start_s
        self.a = a
        self.b = b
        self.steps = steps
        self.first_end_s = start_s + a
        self.end_s = start_s + steps * a + b * (steps * (steps - 1) / 2)
        self.half = a - 0.5 * b
        """With :attr:`half_squared`, what solving the steps' sum for their number needs every time."""
        self.half_squared = self.half * self.half
        self.jump = False
        """Decode steps (whose blocks grow), not a prefill or an idle stretch."""
        self.unprefilled = 0
        self.grown: list[int] = []
        """Blocks allocated by the first 0, 1, ... steps after the first, within one round of the buckets."""

    def prefix_sums(self) -> list[int]:
        """Fill :attr:`grown`, on demand."""
        buckets = self.buckets
        first = (self.counter + 1) % len(buckets)
        self.grown = list(accumulate(buckets[first:] + buckets[:first], initial=0))
        return self.grown

    def end_of(self, step: int) -> float:
        """When step ``step`` (1 = the first) ends."""
        return self.start_s + step * self.a + self.b * (step * (step - 1) / 2)

    def steps_done(self, at_s: float) -> int:
        """Steps that have ended at ``at_s`` (one that ends just then has)."""
        elapsed = at_s - self.start_s
        a, b = self.a, self.b
        if elapsed < a:
            return 0
        if b <= 0.0:
            guess = int(elapsed / a)
        else:
            guess = int((sqrt(self.half_squared + 2.0 * b * elapsed) - self.half) / b)
        if self.end_of(guess + 1) <= at_s:
            guess += 1
        elif guess and self.end_of(guess) > at_s:
            guess -= 1
        return min(guess, self.steps)
