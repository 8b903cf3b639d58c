"""What status reports on a simulated engine say, at any moment, without one being made.

A report is the state at the start of the last finished step, as agents that report with
a step's outputs do. It is read from the engine's stretches in closed form.
"""

from __future__ import annotations

from collections import deque
from math import inf, sqrt

from engine_agents.engines.segment import Report, Segment


class Reports:
    """Reads an engine's stretches as reports; they must be read at times that never go back."""

    __slots__ = ("_block_size", "_segments", "next_s", "shown", "switch_s")

    def __init__(self, block_size_tokens: int, idle: Segment) -> None:
        self._block_size = block_size_tokens
        self._segments: deque[Segment] = deque([idle])
        self.shown = idle
        """The stretch that the last report read was on."""
        self.switch_s = -inf
        """When the stretch after it is first reported."""
        self.next_s = -inf
        """:meth:`write` says nothing new before."""

    def begin(self, segment: Segment) -> None:
        """The engine's next stretch."""
        self._segments.append(segment)
        if segment.first_end_s < self.switch_s:
            self.switch_s = segment.first_end_s
            if self.switch_s < self.next_s:
                self.next_s = self.switch_s

    def write(self, target: Report, at_s: float) -> int:
        """Write what the last report before ``at_s`` said; returns the sequence number it had seen.

        The busiest function of a simulation, hence in one piece.
        """
        segment = self.shown
        if at_s >= self.switch_s:
            segment = self._show(target, at_s)
        steps = segment.steps
        if steps == 1:
            return segment.seen
        start, a, b = segment.start_s, segment.a, segment.b
        if b > 0.0:
            done = int((sqrt(segment.half_squared + 2.0 * b * (at_s - start)) - segment.half) / b)
        else:
            done = int((at_s - start) / a)
        next_s = start + (done + 1) * a + b * (done * (done + 1) / 2)
        if next_s <= at_s:
            done += 1
            next_s = start + (done + 1) * a + b * (done * (done + 1) / 2)
        if done < steps:
            self.next_s = next_s if next_s < self.switch_s else self.switch_s
        else:
            done = steps
            self.next_s = self.switch_s
        if done > 1:
            grown = segment.grown or segment.prefix_sums()
            size = self._block_size
            cycles, rest = divmod(done - 1, size)
            target.used_tokens = (segment.blocks + cycles * segment.size + grown[rest]) * size
        else:
            target.used_tokens = segment.blocks * self._block_size
        return segment.seen

    def _show(self, target: Report, at_s: float) -> Segment:
        """The next stretch has been reported: write what stays the same during it."""
        segments = self._segments
        while len(segments) > 1 and segments[1].first_end_s <= at_s:
            segments.popleft()
        self.switch_s = segments[1].first_end_s if len(segments) > 1 else inf
        self.next_s = self.switch_s
        segment = self.shown = segments[0]
        size = self._block_size
        target.used_tokens = segment.blocks * size
        target.running = segment.running
        target.waiting = segment.waiting
        target.head_of_line_tokens = segment.head * size
        target.queued_tokens = segment.queued * size
        target.reserved_tokens = segment.reserved * size
        target.unprefilled_tokens = segment.unprefilled
        target.preempted = segment.preempted
        target.classes = segment.classes
        return segment

    def most_used_tokens(self) -> int:
        """No report on the stretch shown says more: a sequence opens one block each ``block_size`` tokens."""
        segment = self.shown
        opened = -(-(segment.steps - 1) // self._block_size) * segment.size if segment.jump else 0
        return (segment.blocks + opened) * self._block_size
