"""The wire contract between gateways, engine agents and the control plane.

Every message is a ``msgspec`` struct, sent as MessagePack and grouped below by
its receiver. Nothing is ever unpickled from a wire. Units are in the names;
token and block counts are integers. A *dispatch number* is issued only by the
request's gateway; ``engine_id = f"{request_id}#{dispatch}"`` names one
incarnation of a request at one engine, and an output under an older number is
dropped.

Sockets of an agent: ``data_endpoint`` (a ROUTER that gateways connect to with
DEALER sockets whose identity is the gateway's id) and ``peer_endpoint`` (a
ROUTER that other agents connect to with DEALER sockets). A message is one
frame of MessagePack, followed by raw frames only where a docstring says so.
"""

from __future__ import annotations

import msgspec

PROTOCOL_VERSION = 1


class Message(msgspec.Struct, tag=True, kw_only=True, omit_defaults=True):
    """Base of all wire messages; the class name is the tag."""


def engine_id(request_id: str, dispatch: int) -> str:
    """Name of one incarnation of a request at one engine."""
    return f"{request_id}#{dispatch}"


def split_engine_id(value: str) -> tuple[str, int]:
    """Inverse of :func:`engine_id`. Raises ``ValueError`` on any other text."""
    request_id, separator, dispatch = value.rpartition("#")
    if not separator:
        raise ValueError(f"not an engine id (no '#'): {value!r}")
    return request_id, int(dispatch)


# --------------------------------------------------------------- to the agent, from a gateway


class Hello(Message):
    """First message on a connection, and its sign of life: repeated every 0.5 s while the gateway lives.

    Every Hello is answered by :class:`Ready`, so that an agent that came back (same address,
    new ``incarnation``) is noticed. A gateway that sends nothing for ``gateway_timeout_s``
    (5 s) is gone: its requests are aborted. A new ``incarnation`` under the same
    ``gateway_id`` ends what the old one had here.
    """

    gateway_id: str
    incarnation: str
    protocol_version: int = PROTOCOL_VERSION
    engine_version: str = ""


class Add(Message):
    """Start (or resume) a request.

    ``engine_request`` is the engine's own encoding (vLLM's ``EngineCoreRequest``),
    opaque to the agent. ``prior_token_ids`` are the output tokens already made:
    a recovered request continues after them. ``seq`` counts the sender's Adds on
    this connection; the agent echoes the highest it has seen in its status.
    """

    request_id: str
    dispatch: int
    seq: int
    engine_request: bytes
    prior_token_ids: list[int] = []
    slo_class: str = "standard"
    tenant: str = ""
    rank: int = 1
    """Scheduling priority of the class; lower is served first."""
    prompt_tokens: int = 0
    only_if_fits: bool = False


class Abort(Message):
    """Stop these requests wherever they are on this agent; unknown ids are ignored."""

    engine_ids: list[str]


class SetRank(Message):
    """Change the urgency of requests that run or wait here; ids that are not the sender's are ignored.

    A move under way takes it along: COMMIT carries the rank and class of that moment.
    """

    engine_ids: list[str]
    rank: int
    """Scheduling priority from the next step on; lower is served first."""
    slo_class: str = ""
    """The class that they are counted under from now on; empty: as before."""


class GrantMove(Message):
    """Answer to :class:`AskMove`: the next dispatch number, or why not."""

    migration_id: str
    engine_id: str
    granted: bool
    next_dispatch: int = 0
    reason: str = ""


class Owner(Message):
    """The judge's verdict for an agent in doubt: which dispatch number may run."""

    migration_id: str
    request_id: str
    dispatch: int
    """0 when the request is over."""


# --------------------------------------------------------------- to a gateway, from the agent


class Ready(Message):
    """Answer to :class:`Hello`: who serves here, and what must agree with the gateway."""

    instance_id: str
    incarnation: str
    protocol_version: int
    engine: str
    """``vllm`` or ``simulated``."""
    engine_version: str
    served_model: str
    max_model_len: int
    block_size_tokens: int
    total_blocks: int


class Refused(Message):
    """An Add that was not taken; the request is nowhere on this agent."""

    engine_id: str
    reason: str
    """``no_room``, ``draining``, ``version``, ``stale_dispatch``, ``invalid: …``"""
    room_tokens: int = 0


class Step(Message):
    """All outputs of one engine step for one gateway.

    ``outputs`` is the engine's own encoding (vLLM's ``EngineCoreOutputs``), in which
    output *i* belongs to ``engine_ids[i]`` and its first new token stands at
    position ``starts[i]`` of the request's output (0 = first output token).
    """

    step: int
    engine_ids: list[str]
    starts: list[int]
    outputs: bytes
    room_tokens: int = 0


class AskMove(Message):
    """A source asks, at RESERVE, for the dispatch number the destination will run under."""

    migration_id: str
    engine_id: str
    destination_instance_id: str


class Adopted(Message):
    """A destination runs the request from output position ``start`` under ``engine_id``.

    ``output_token_ids`` are all output tokens made before ``start``, so that the
    gateway can close a gap should the source's last tokens never arrive.
    """

    migration_id: str
    engine_id: str
    start: int
    output_token_ids: list[int]


class Preempted(Message):
    """The engine had to pre-empt this request (its KV cache is lost; its tokens are not)."""

    engine_id: str


class Heartbeat(Message):
    """Sent at least every second on every gateway connection."""

    instance_id: str
    incarnation: str
    seq: int
    room_tokens: int = 0
    steps_sent: int = -1
    """Step messages sent on this connection since its first Hello; a gateway that has received
    fewer when this arrives has lost some (a link that broke and mended). -1: not told."""
    seen_seq: int = -1
    """Every Add of this gateway up to this number is taken into account in ``room_tokens``. -1: not told."""


class AskOwner(Message):
    """Answered by :class:`Owner`; sent by an agent in doubt, see ``Doubt``."""

    migration_id: str
    request_id: str


# --------------------------------------------------------------- between two agents


class Reserve(Message):
    """Source → destination, before each stage: room for this request's next blocks.

    Stage 0 carries ``image``, the engine's own encoding of the request (opaque here),
    and the identity the destination will run it under.
    """

    migration_id: str
    stage: int
    new_engine_id: str
    total_tokens: int
    """Tokens the destination must have room for when this stage is in."""
    image: bytes = b""
    gateway_id: str = ""
    gateway_incarnation: str = ""
    slo_class: str = "standard"
    tenant: str = ""
    rank: int = 1
    prompt_tokens: int = 0
    compatibility: str = ""
    """Model, shapes, dtype and engine version in one string; must be equal."""
    offers: dict[str, bytes] = {}
    """Ways that the bytes of blocks may take beside the messages, and what each needs."""


class Reserved(Message):
    """Destination → source: the room is reserved until it is used, aborted or expires."""

    migration_id: str
    stage: int
    blocks: int
    way: str = ""
    """Which of the offers is taken; empty: none, the bytes come with the messages."""


class Refuse(Message):
    """Destination → source: no room (or no slot, draining, incompatible, unknown)."""

    migration_id: str
    stage: int
    reason: str


class Chunk(Message):
    """Source → destination: KV blocks ``first_block … first_block+blocks-1`` of the request.

    Followed by one raw frame with the bytes, unless they lie elsewhere.
    """

    migration_id: str
    stage: int
    first_block: int
    blocks: int
    checksum: int
    """XXH3 (64 bits) of the bytes."""
    last: bool = False
    place: str = ""
    """Empty: the bytes are the raw frame. ``SLOT:LENGTH``: they lie there, by the way agreed upon."""


class Taken(Message):
    """Destination → source: what lay at ``place`` has been read; not said of a stage's last."""

    migration_id: str
    place: str


class StageDone(Message):
    """Destination → source: every chunk of this stage is in."""

    migration_id: str
    stage: int


class Commit(Message):
    """Source → destination: it is yours. Sent once the source has frozen the request.

    ``frozen`` is the engine's own encoding of tokens and sampler state. Followed by
    one raw frame with the tail blocks from ``first_block`` on, unless they lie at ``place``.
    """

    migration_id: str
    new_engine_id: str
    first_block: int
    blocks: int
    checksum: int
    frozen: bytes
    output_token_ids: list[int]
    num_computed_tokens: int
    rank: int | None = None
    """Of this moment, should it have changed since RESERVE; ``None``: as reserved."""
    slo_class: str = ""
    """Likewise; empty: as reserved."""
    place: str = ""
    """As in :class:`Chunk`."""


class Committed(Message):
    """Destination → source: adopted; the source may release."""

    migration_id: str


class AbortMove(Message):
    """Either side → the other: this migration is over; free what it reserved."""

    migration_id: str
    reason: str


class Doubt(Message):
    """Source → destination, when COMMIT went unanswered: did you adopt it?"""

    migration_id: str


class DoubtAnswer(Message):
    """Destination → source: ``adopted``, ``not_adopted`` (and never will be) or ``unknown``."""

    migration_id: str
    verdict: str


# --------------------------------------------------------------- control plane → agent (Ray actor calls)


class MigrateOut(Message):
    """Command of the rebalancing loop or of an operator."""

    migration_id: str
    destination_instance_id: str
    destination_peer_endpoint: str
    rule: str
    """Why: ``load``, ``headroom``, ``preempted``, ``drain``, ``hole``, ``manual`` …"""
    lease_epoch: int
    budget_tokens: int
    max_requests: int = 1
    request_id: str = ""
    """Set for a manual move of one request; else the source's selection chooses."""
    order: str = "shortest"
    """Who leaves first within the lowest priority: ``shortest``, ``latest``, ``longest``, ``cover``."""
    need_tokens: int = 0
    """With ``cover``: what the source must be rid of."""
    spare_rank_below: int | None = None
    """Requests of classes of a lower rank number stay: the move makes headroom for them."""


class MigrateOutAnswer(Message):
    """What the source chose. One ``Planned`` per request it will try to move."""

    accepted: bool
    reason: str = ""
    planned: list[PlannedMove] = []


class PlannedMove(Message):
    migration_id: str
    """The command's id for the first request, ``<id>.2``, ``<id>.3`` … for the others."""
    request_id: str
    slo_class: str
    tenant: str
    tokens: int
    why: str


class RequestInfo(Message):
    """One live request on an instance, for people; never on the hot path."""

    engine_id: str
    request_id: str
    slo_class: str
    tenant: str
    state: str
    """``waiting``, ``running``, ``preempted``, ``frozen``, ``arriving``"""
    prompt_tokens: int
    output_tokens: int
    blocks: int
    arrived_at_s: float
    migration_id: str = ""


# --------------------------------------------------------------- agent → Redis


class ClassLoad(msgspec.Struct, kw_only=True):
    """Load of one SLO class on one instance."""

    slo_class: str
    running: int = 0
    waiting: int = 0
    used_blocks: int = 0


class InstanceStatus(Message):
    """An agent's report: aggregates, never request lists.

    Written to the hash ``<prefix>status`` (field = instance id) and published on the
    channel ``<prefix>status`` at load changes, at most every 50 ms and at least
    every second.
    """

    instance_id: str
    pool: str
    incarnation: str
    seq: int
    reported_at_s: float
    """Agent's wall clock, for display only; age is the reader's time since it received a new ``seq``."""
    state: str
    """``starting``, ``warming``, ``ready``, ``stopping``"""
    accepting: bool
    """False while draining: no new work, everything may leave."""
    engine: str
    engine_version: str
    served_model: str
    data_endpoint: str
    peer_endpoint: str
    block_size_tokens: int
    total_blocks: int
    used_blocks: int
    reserved_blocks: int
    """Held for incoming migrations; not part of ``used_blocks``."""
    running: int
    waiting: int
    per_class: list[ClassLoad]
    head_of_line_blocks: int
    """Demand of the first waiting request; 0 if none waits."""
    queued_blocks: int
    """Demand of all waiting requests, the first included."""
    unprefilled_tokens: int
    preempted_waiting: int
    preemptions_total: int
    step_ms: float
    """Mean duration of the steps since the last report; 0.0 when there was none."""
    tokens_per_s: float
    migrations_in: int
    migrations_out: int
    migration_slots: int
    seen: dict[str, int]
    """Per gateway incarnation: highest ``Add.seq`` taken into account in this report."""
    lease_epoch: int
    """Highest heard of; commands of older ones are refused …"""
    refused_epochs: int = 0
    """… and counted here."""
    kv_bytes_per_token: int = 0
    pid: int = 0
    host: str = ""
    leaving: bool = False
    """Its process was told to end: it takes no work again and waits until everything has left."""
    tokens_total: int = 0
    """Generated since the engine's start."""


class StageRecord(msgspec.Struct, kw_only=True):
    """One stage of one migration, as measured by the source."""

    stage: int
    blocks: int
    bytes: int
    duration_ms: float
    tokens_meanwhile: int
    """Tokens the source made while this stage was copied."""


class MigrationOutcome(Message):
    """How a migration stands; in the stream ``<prefix>migrations`` at start, per stage and at the end.

    ``state`` is one of ``reserving``, ``copying``, ``freezing``, ``committed``,
    ``in_doubt``, ``done``, ``aborted``; the last two are final.
    """

    migration_id: str
    request_id: str
    source_instance_id: str
    destination_instance_id: str
    rule: str
    why: str
    slo_class: str
    tenant: str
    state: str
    reason: str = ""
    stages: list[StageRecord] = []
    downtime_ms: float = 0.0
    """Pause as far as the source can tell: freeze to COMMITTED."""
    tokens_at_start: int = 0
    tokens_moved: int = 0
    at_s: float = 0.0


class GatewayStatus(Message):
    """A gateway's report, in the hash and on the channel ``<prefix>gateways``, every second."""

    gateway_id: str
    incarnation: str
    pool: str
    url: str
    reported_at_s: float
    open_streams: int
    queued: int
    per_class: list[ClassLatency]
    pid: int = 0
    served_model: str = ""
    """What clients ask for to be served here."""
    waiters: list[Waiter] = []
    """The first fifty of its queue in order, and the one that waits longest; none when nothing waits."""
    queue_tokens: int = 0
    """Demand of everything in its queue."""


class Waiter(msgspec.Struct, kw_only=True):
    """A request that waits at a gateway."""

    request_id: str
    slo_class: str
    prompt_tokens: int
    waiting_s: float
    """An age, by the gateway's own clock."""
    generated_tokens: int = 0
    tenant: str = ""
    needed_tokens: int = 0
    """What it must have room for to start."""
    position: int = 0
    """In this gateway's queue; 1 is next."""
    why: str = ""
    """What it waits for, for people."""
    recovering: bool = False
    """It lost its instance and goes on from its tokens."""


class ClassLatency(msgspec.Struct, kw_only=True):
    """Latency of one class at one gateway over the last 60 s; ``None`` where nothing finished."""

    slo_class: str
    requests: int
    open: int
    ttft_p50_ms: float | None = None
    ttft_p99_ms: float | None = None
    tpot_p50_ms: float | None = None
    tpot_p99_ms: float | None = None
    ttft_attained: float | None = None
    tpot_attained: float | None = None


ToAgent = Hello | Add | Abort | SetRank | GrantMove | Owner
ToGateway = Ready | Refused | Step | AskMove | Adopted | Preempted | Heartbeat | AskOwner
ToDestination = Reserve | Chunk | Commit | AbortMove | Doubt
ToSource = Reserved | Refuse | Taken | StageDone | Committed | AbortMove | DoubtAnswer

_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """MessagePack of one message, tagged by its class name."""
    return _encoder.encode(message)
