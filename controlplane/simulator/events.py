"""Virtual time: which event comes next, and a log that proves two runs equal.

Events happen in the order of their time. Events of the same instant happen in this
order, which is part of the contract:

1. ``STEP``: an engine's step ends (by engine number);
2. ``MESSAGE``: something reaches an engine (in the order sent);
3. ``REPORT``: something reaches the control plane (in the order sent);
4. ``ARRIVAL``: a request reaches the gateway (in the order of the workload);
5. ``TICK``: the rebalancing loop looks.

So whoever decides at an instant has seen everything that happened up to it.
"""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections.abc import Callable
from typing import Any

STEP, MESSAGE, REPORT, ARRIVAL, TICK = range(5)

Action = Callable[[float, Any], None]


class EventQueue:
    """A heap of ``(time, kind, order, number, action, argument)``."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, int, Action, Any]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, at_s: float, kind: int, action: Action, argument: Any, order: int = -1) -> None:
        """Call ``action(at_s, argument)`` then; ``order`` overrides the order of pushing among equals."""
        number = self._number = self._number + 1
        heapq.heappush(self._heap, (at_s, kind, number if order < 0 else order, number, action, argument))

    def pop(self) -> tuple[float, Action, Any]:
        """The next event. Raises ``IndexError`` when there is none."""
        event = heapq.heappop(self._heap)
        return event[0], event[4], event[5]


ARRIVED, BOUND, REFUSED, FIRST_TOKEN, FINISHED, PREEMPTED = range(6)
MOVE_STARTED, MOVE_DONE, MOVE_ABORTED, INSTANCE_UP, INSTANCE_DRAINS, INSTANCE_DOWN, REJECTED = range(6, 13)


class EventLog:
    """What happened, as rows of four integers: microseconds, kind, request, instance."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows = array("q")

    def note(self, at_s: float, kind: int, request: int, instance: int) -> None:
        self.rows.extend((round(at_s * 1e6), kind, request, instance))

    def sha256(self) -> str:
        """Of the rows as little-endian 64-bit integers."""
        rows = self.rows
        if rows and array("h", [1]).tobytes() != b"\x01\x00":
            rows = array("q", rows)
            rows.byteswap()
        return hashlib.sha256(rows.tobytes()).hexdigest()
