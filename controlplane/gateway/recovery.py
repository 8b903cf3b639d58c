"""When a request lost its instance: may it be dispatched again, or has it an error to get?

Recovery itself is a dispatch like any other, with the tokens so far: the engine
appends them to the prompt, draws the sampler's generator forward, and goes on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from controlplane.gateway.live_requests import RECOVERY_ATTEMPTS, LiveRequest

INVALID = "invalid:"
PASSING = frozenset({"no_room", "draining"})
"""Refusals that time mends; how long a request may wait is limited elsewhere."""
MAX_REFUSALS = 20
"""An Add refused so often for other reasons will never be taken."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """What the client is told instead."""

    status: int
    message: str


class Recovery:
    """Counts, and knows the limits."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()

    def begin(self, live: LiveRequest, now_s: float) -> GiveUp | None:
        """It lost its instance at ``now_s``; ``None``: dispatch it again."""
        self.counters["recoveries"] += 1
        if live.entry.recoveries > RECOVERY_ATTEMPTS:
            self.counters["given_up"] += 1
            return GiveUp(503, f"The request failed on {live.entry.recoveries} instances. Try again.")
        live.lost_at_s = now_s
        return None

    def after_refusal(self, live: LiveRequest, reason: str) -> GiveUp | None:
        """An instance did not take it; ``None``: try elsewhere or later."""
        if reason.startswith(INVALID):
            return GiveUp(400, f"The engine cannot run this request: {reason.removeprefix(INVALID).strip()}")
        if reason not in PASSING:
            live.refusals += 1
        if live.refusals > MAX_REFUSALS:
            return GiveUp(503, f"No instance took the request ({reason}). Try again.")
        return None
