"""What rules judge: plain facts of one moment, gathered by whoever evaluates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InstanceFact:
    """One instance's row and last report."""

    instance_id: str
    pool: str
    state: str
    cause: str = ""
    age_s: float | None = None
    """Of its last report; ``None``: none is known."""
    capacity_tokens: int = 0
    free_tokens: int = 0
    head_of_line_tokens: int = 0
    """Demand of the request that waits first there; 0: none waits."""
    preemptions_total: int = 0


@dataclass(frozen=True, slots=True)
class ClassWindow:
    """Requests of a class that finished in a window, and how many missed a target."""

    requests: int
    missed: int


@dataclass(frozen=True, slots=True)
class LimitFact:
    """How much of a limit is used now."""

    subject: str
    limit: str
    used: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that any rule may look at. Empty parts were not asked for or are not known."""

    instances: Sequence[InstanceFact] = ()
    windows: Mapping[tuple[str, int], ClassWindow] = field(default_factory=dict)
    """By class and length in minutes."""
    longest_wait_s: Mapping[str, float] = field(default_factory=dict)
    """Per class, of what waits in the gateways' queues."""
    preemptions_per_minute: Mapping[str, float] = field(default_factory=dict)
    """Per pool."""
    loop_silent_s: float | None = None
    """Since the loop's last tick; ``None``: nobody ever led, or nobody knows."""
    limits: Sequence[LimitFact] = ()
    blind: bool = False
    """Redis is away: live facts are unknown, not zero. Rules on them are not judged."""
