"""What a policy may see: the cluster at one moment, counted in tokens.

A snapshot is data. It is built by a driver (the live loop, a gateway, the
simulator), never changed afterwards, and holds no request lists: the cost of a
decision grows with instances, not with requests (Llumnix, OSDI'24, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClassRule:
    """What the policy needs to know of an SLO class."""

    name: str
    rank: int
    """Scheduling priority: lower is served first."""
    target_load_tokens: int | None = None
    """Execution priority: others may fill an instance hosting this class up to this load; ``None`` = none."""


@dataclass(slots=True)
class ClassUse:
    """One class on one instance. Not frozen for the reason that :class:`InstanceSnapshot` gives."""

    name: str
    running: int
    waiting: int
    used_tokens: int


@dataclass(slots=True)
class InstanceSnapshot:
    """One instance as last reported. Memory is in tokens of KV cache.

    Not frozen, because a frozen one costs four times as much to build; the core
    never changes one. A driver may keep its own objects and bring them up to date
    *between* two calls of the core, never during one.
    """

    instance_id: str
    capacity_tokens: int
    used_tokens: int
    reserved_tokens: int
    """Held for incoming migrations, not part of ``used_tokens``."""
    running: int
    waiting: int
    head_of_line_tokens: int
    """Demand of the first waiting request, 0 if none waits."""
    queued_tokens: int
    """Demand of all waiting requests, the first included."""
    classes: tuple[ClassUse, ...] = ()
    unprefilled_tokens: int = 0
    preempted: int = 0
    """Pre-empted requests that wait for memory."""
    block_size_tokens: int = 16
    relative_speed: float = 1.0
    draining: bool = False
    accepting: bool = True
    age_s: float = 0.0
    """Since the report was received."""
    migrations_in: int = 0
    migrations_out: int = 0
    migration_slots: int = 1
    served_model: str = ""


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """All instances of one pool at ``taken_at_s`` (the driver's clock)."""

    taken_at_s: float
    instances: tuple[InstanceSnapshot, ...]
    classes: Mapping[str, ClassRule] = field(default_factory=dict)
    waiters: tuple[RequestProfile, ...] = ()
    """The longest waiting request of each gateway's queue that fits nowhere (late binding)."""
    queue_tokens: int = 0
    """Demand of everything in the gateways' queues (late binding)."""
    starting: int = 0
    """Instances on their way up, not in ``instances`` yet."""


@dataclass(frozen=True, slots=True)
class RequestProfile:
    """What a policy may know of a request."""

    request_id: str
    slo_class: str
    prompt_tokens: int
    arrived_at_s: float
    generated_tokens: int = 0
    served_model: str = ""
    """Empty: any instance of the pool."""
