"""The live protocol as types: what travels on ``/ws/v1/live`` between this process and a page.

The page's TypeScript is generated from these and from the events of the control plane
(``python -m console.dashboard.typescript``). Times are seconds of the server's clock;
``None`` is absent, never 0. Memory is in blocks where the name says so, else in tokens.
"""

from __future__ import annotations

from typing import Any, Literal, NewType, NotRequired, TypedDict

EventKind = Literal["moving", "good", "stopped", "risk", "hurt", "note"]
Topic = Literal["requests"]
ControlEvent = NewType("ControlEvent", dict[str, Any])
"""An event of ``controlplane.events.schema`` as it travels."""


class ClassLoad(TypedDict):
    slo_class: str
    running: int
    waiting: int
    used_blocks: int


class Instance(TypedDict):
    id: str
    heard_at: float | None
    pool: str
    row_state: str | None
    wanted_accepting: bool | None
    cause: str
    changed_at: float | None
    served_model: str
    engine: str
    state: str | None
    accepting: bool | None
    incarnation: str | None
    engine_version: str | None
    host: str | None
    pid: int | None
    block_size_tokens: int | None
    total_blocks: int | None
    used_blocks: int | None
    reserved_blocks: int | None
    headroom_blocks: int | None
    running: int | None
    waiting: int | None
    classes: list[ClassLoad]
    head_of_line_blocks: int | None
    queued_blocks: int | None
    preempted_waiting: int | None
    preemptions_total: int | None
    step_ms: float | None
    tokens_per_s: float | None
    freeness: float | None
    migrations_in: int | None
    migrations_out: int | None
    migration_slots: int | None
    kv_bytes_per_token: int | None
    lease_epoch: int | None


class Gateway(TypedDict):
    id: str
    incarnation: str
    pool: str
    url: str
    open_streams: int
    queued: int
    heard_at: float


class Waiter(TypedDict):
    """A request in the queue in front of the fleet."""

    gateway: str
    pool: str
    request_id: str
    tenant: str
    slo_class: str
    prompt_tokens: int
    generated_tokens: int
    needed_tokens: int
    since: float
    position: int
    """1 is next at its gateway."""
    why: str
    recovering: bool


class SloClass(TypedDict):
    name: str
    rank: int
    ttft_target_ms: int | None
    tpot_target_ms: int | None
    target_load_tokens: int | None
    objective: float
    requests: int | None
    open: int | None
    ttft_p50_ms: float | None
    ttft_p99_ms: float | None
    tpot_p50_ms: float | None
    tpot_p99_ms: float | None
    ttft_attained: float | None
    tpot_attained: float | None


class Stage(TypedDict):
    stage: int
    blocks: int
    bytes: int
    duration_ms: float
    tokens_meanwhile: int


class Migration(TypedDict):
    id: str
    request_id: str
    source: str
    destination: str
    rule: str
    why: str
    slo_class: str
    tenant: str
    state: str
    reason: str
    stages: list[Stage]
    downtime_ms: float | None
    tokens_at_start: int | None
    tokens_moved: int | None
    started_at: float
    updated_at: float
    ended_at: float | None
    actor: str


class LiveRequest(TypedDict):
    """One request on an instance; never its text."""

    engine_id: str
    request_id: str
    tenant: str
    slo_class: str
    state: str
    prompt_tokens: int
    output_tokens: int
    blocks: int
    arrived_at: float
    migration_id: str


class Resident(TypedDict):
    """Who holds the memory of one instance; only for those who subscribed to ``requests``."""

    id: str
    heard_at: float
    requests: list[LiveRequest]


class FeedEvent(TypedDict):
    id: int
    at: float
    kind: EventKind
    text: str
    link: str


class News(TypedDict):
    """An event of the control plane as it was published: tells lists that they are out of date."""

    id: int
    event: ControlEvent


class Loop(TypedDict):
    leader: str
    epoch: int
    last_tick_at: float
    tick_ms: float
    interval_ms: int
    problems: list[str]


class GatewaysAsked(TypedDict):
    """Gateways that were asked themselves, and how many answered."""

    asked: int
    answered: int
    at: float


class RedisAway(TypedDict):
    since: float
    error: str
    attempts: int
    next_try_at: float
    gateways: GatewaysAsked | None


class DatabaseAway(TypedDict):
    since: float
    error: str


class Degraded(TypedDict):
    redis: NotRequired[RedisAway]
    database: NotRequired[DatabaseAway]


class Snapshot(TypedDict):
    """Everything a page starts from; a delta holds the parts that changed."""

    instances: list[Instance]
    gateways: list[Gateway]
    classes: list[SloClass]
    migrations: list[Migration]
    residents: NotRequired[list[Resident]]
    events: list[FeedEvent]
    news: list[News]
    loop: Loop | None
    degraded: Degraded
    tenants: list[str]
    queue: list[Waiter]
    firing: list[Firing]


class Firing(TypedDict):
    """An alert that fires now."""

    id: int
    rule: str
    severity: str
    subject: str
    text: str
    since: float
    acknowledged_by: str


class SnapshotFrame(TypedDict):
    type: Literal["snapshot"]
    seq: int
    at: float
    topics: list[Topic]
    state: Snapshot


class HistoryFrame(TypedDict):
    type: Literal["history"]
    of: Literal["instance", "class"]
    id: str
    interval_s: float
    fields: list[str]
    points: list[list[float | None]]
