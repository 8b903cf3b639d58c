"""In which order do requests leave the fleet's queue, and who goes where? Late binding.

A request waits in front of the fleet and is bound to an instance only when it can start
there now. Order is scheduling priority, then *arrival + beta x prompt tokens* (shortest
job first with aging). A head that fits nowhere is passed over (first fit), because one
long prompt would otherwise block the whole cluster; after a while it gets a *hole*: an
instance that is kept free for it.

What fits is judged on reports that are a little old, so the ledger of what was sent
since then is part of it: without it late binding falls as soon as messages take time.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from controlplane.scheduling import filters
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Hole, Migrate, Reject
from controlplane.scheduling.dispatch import FOREVER
from controlplane.scheduling.dispatch import refusal as refusal_of_all
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import Classes, demand_tokens, room_tokens
from controlplane.scheduling.snapshot import ClusterSnapshot, InstanceSnapshot, RequestProfile

LOWEST_RANK = 1_000_000


class Queued(NamedTuple):
    """One waiting request; the tuple's order is the queue's order."""

    rank: int
    key_s: float
    number: int
    """Breaks ties: the order in which they came into this queue."""
    request: RequestProfile
    tokens: int
    """Prompt and tokens so far: the memory it needs to start."""


def queue_key(request: RequestProfile, beta_s_per_token: float) -> float:
    """Arrival + beta x prompt tokens."""
    return request.arrived_at_s + beta_s_per_token * request.prompt_tokens


def rehome_key(request: RequestProfile, now: float, config: SchedulingConfig) -> float:
    """Where a pre-empted request returns to: a little before now, later the more it must recompute."""
    length = request.prompt_tokens + request.generated_tokens
    return now - config.queue.rehome_credit_s + config.queue.beta_s_per_token * length


def rank_of(slo_class: str, classes: Classes) -> int:
    """Scheduling priority; a class nobody declared comes last."""
    rule = classes.get(slo_class)
    return rule.rank if rule is not None else LOWEST_RANK


def admit(snapshot: ClusterSnapshot, request: RequestProfile, config: SchedulingConfig) -> Reject | None:
    """Ask before a request joins the queue: one that no instance can ever take is refused at once."""
    for instance in snapshot.instances:
        if filters.for_request(instance, request, config) not in FOREVER:
            return None
    answer = refusal_of_all(snapshot, request, config)
    return answer if isinstance(answer, Reject) else None


def rehomes(snapshot: ClusterSnapshot, config: SchedulingConfig) -> bool:
    """Shall engines hand back now what they must pre-empt?

    Its cache is lost anyway, so any instance is as good. But once the whole fleet is short
    of memory there is nowhere to go: then it waits where it was, and its instance takes
    nothing new before it (re-homing would let decodes and prompts drive each other out).
    """
    if not config.queue.rehome:
        return False
    capacity = demand = 0
    for each in snapshot.instances:
        capacity += each.capacity_tokens
        demand += each.used_tokens + each.reserved_tokens + each.queued_tokens
    return demand + snapshot.queue_tokens < config.queue.rehome_below_share * capacity


class FleetQueue:
    """The waiting requests of one gateway, in order."""

    def __init__(self) -> None:
        self._order: list[Queued] = []
        self._by_id: dict[str, Queued] = {}
        self._number = 0
        self._tokens = 0

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Queued]:
        return iter(self._order)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._by_id

    def get(self, request_id: str) -> Queued | None:
        return self._by_id.get(request_id)

    def add(self, request: RequestProfile, rank: int, key_s: float) -> Queued:
        """Put a request in its place. Raises ``ValueError`` when it already waits."""
        if request.request_id in self._by_id:
            raise ValueError(f"request {request.request_id} already waits")
        self._number += 1
        tokens = request.prompt_tokens + request.generated_tokens
        entry = Queued(rank, key_s, self._number, request, tokens)
        insort(self._order, entry)
        self._by_id[request.request_id] = entry
        self._tokens += tokens
        return entry

    def remove(self, request_id: str) -> bool:
        """Take it out (bound, aborted, gone); ``False`` when it was not here."""
        entry = self._by_id.pop(request_id, None)
        if entry is None:
            return False
        del self._order[bisect_left(self._order, entry)]
        self._tokens -= entry.tokens
        return True

    def tokens(self) -> int:
        """Demand of all who wait."""
        return self._tokens

    def longest_waiting(self) -> RequestProfile | None:
        """The request that arrived first, what the loop may open a hole for."""
        if not self._order:
            return None
        return min(self._order, key=lambda entry: (entry.request.arrived_at_s, entry.number)).request


class Desk:
    """One instance during a walk: what is left there after what the walk has already given it."""

    __slots__ = ("instance", "requests", "room", "unprefilled")

    def __init__(self, instance: InstanceSnapshot, room: float, requests: int, unprefilled: int) -> None:
        self.instance = instance
        self.room = room
        self.requests = requests
        self.unprefilled = unprefilled

    def give(self, tokens: int) -> None:
        """A request of ``tokens`` is bound to it."""
        self.room -= demand_tokens(tokens, self.instance.block_size_tokens)
        self.requests += 1
        self.unprefilled += tokens


def desks(instances: Iterable[InstanceSnapshot], ledger: Ledger, config: SchedulingConfig) -> list[Desk]:
    """What a walk sees of ``instances``, the ledger included: room, requests, prompts to prefill."""
    accounted = config.dispatch.in_flight_accounting is not False
    watermark = config.dispatch.watermark_share
    rows = []
    for instance in instances:
        tokens, requests = ledger.in_flight(instance.instance_id) if accounted else (0, 0)
        rows.append(_desk(instance, tokens, requests, watermark))
    return rows


def _desk(instance: InstanceSnapshot, tokens: int, requests: int, watermark_share: float) -> Desk:
    return Desk(
        instance,
        room_tokens(instance, tokens, watermark_share),
        instance.running + instance.waiting + requests,
        instance.unprefilled_tokens + tokens,
    )


def cap_tokens(instance: InstanceSnapshot, rank: int, classes: Classes) -> int | None:
    """Execution priority: up to which load may requests of ``rank`` fill this instance? ``None``: no limit.

    Classes of higher priority that are on the instance hold it to their target load.
    """
    targets = [
        rule.target_load_tokens
        for use in instance.classes
        if use.running + use.waiting
        and (rule := classes.get(use.name)) is not None
        and rule.target_load_tokens is not None
        and rule.rank < rank
    ]
    return min(targets, default=None)


def refusal(
    desk: Desk, entry: Queued, config: SchedulingConfig, classes: Classes, holes: Mapping[str, str]
) -> str:
    """Why this request cannot start on this instance now; "" when it can."""
    instance = desk.instance
    demand = demand_tokens(entry.tokens, instance.block_size_tokens)
    if desk.room < demand:
        return "no_room"
    limit = config.dispatch.unprefilled_limit_tokens
    if limit and desk.unprefilled and desk.unprefilled + entry.tokens > limit:
        return "prefill_limit"
    if holes and holes.get(instance.instance_id, entry.request.request_id) != entry.request.request_id:
        return "hole"
    if classes and instance.classes:
        cap = cap_tokens(instance, entry.rank, classes)
        usable = instance.capacity_tokens * (1.0 - config.dispatch.watermark_share)
        if cap is not None and usable - desk.room + demand > cap:
            return "headroom"
    return filters.for_request(instance, entry.request, config)


def next_dispatches(
    queue: FleetQueue,
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    config: SchedulingConfig,
    *,
    holes: Mapping[str, str] | None = None,
    instances: Iterable[InstanceSnapshot] | None = None,
    request_id: str = "",
    rule: str = "late_binding",
) -> list[Dispatch]:
    """Walk the queue in order and bind what can start now; the queue and the ledger are left alone.

    The driver must enter each dispatch in the ledger, then send it, then remove it from
    the queue. Room only ever grows on an instance that reports, and only a new request
    has not been tried: so after a report it is enough to walk with ``instances=(that
    one,)``, after an arrival with ``request_id=`` the new one; a full walk on a timer
    catches the rest. Source: policy study, late binding with first fit.
    """
    if instances is None:
        instances = snapshot.instances
    if request_id:
        only = queue.get(request_id)
        chosen = _pick_one(instances, only, ledger, config, snapshot.classes, holes or {}) if only else None
        return [Dispatch(request_id, chosen.instance.instance_id, rule)] if chosen is not None else []
    rows = desks(instances, ledger, config)
    if not rows:
        return []
    bound: list[Dispatch] = []
    skips_left = config.queue.max_skips
    largest = max([desk.room for desk in rows])
    for entry in queue:
        desk = None
        if entry.tokens <= largest:
            desk = pick(rows, entry, config, snapshot.classes, holes or {})
        if desk is None:
            if not skips_left:
                break
            skips_left -= 1
            continue
        desk.give(entry.tokens)
        bound.append(Dispatch(entry.request.request_id, desk.instance.instance_id, rule))
        largest = max([desk.room for desk in rows])
    return bound


Value = tuple[float, float, float]
"""How good an instance is for a request: compared part by part, the greater the better; ties go by id."""


def calm_value(desk: Desk, tokens: int, enough_tokens: float) -> Value:
    """Room per request up to what is enough, then the fewest requests, then the most room.

    That it fits is already certain, so once there is room to go on for a while, what is
    left to choose is how many others a prefill holds up and how many share each step.
    """
    left = desk.room - tokens
    requests = desk.requests + 1
    return (min(left / requests, enough_tokens), desk.instance.relative_speed / requests, left)


def free_value(desk: Desk, tokens: int, enough_tokens: float) -> Value:
    """Room per request: for classes with a target load, whose decodes short contexts speed up."""
    left = desk.room - tokens
    return (left / (desk.requests + 1) * desk.instance.relative_speed, left, 0.0)


def value_of(desk: Desk, entry: Queued, config: SchedulingConfig, classes: Classes) -> Value:
    """The value by which :func:`pick` compares instances for this request."""
    value = free_value if _target_tokens(entry, classes) is not None else calm_value
    return value(desk, entry.tokens, config.queue.enough_tokens)


def _target_tokens(entry: Queued, classes: Classes) -> int | None:
    rule = classes.get(entry.request.slo_class)
    return rule.target_load_tokens if rule is not None else None


def pick(
    rows: list[Desk], entry: Queued, config: SchedulingConfig, classes: Classes, holes: Mapping[str, str]
) -> Desk | None:
    """The best instance where the request can start now, or ``None``.

    A class with a target load is kept together: first on instances that host it and stay
    within its target, so that few instances are closed to the others.
    """
    target = _target_tokens(entry, classes)
    if target is None:
        return _best(rows, entry, config, classes, holes)
    hosting = [desk for desk in rows if _stays_within(desk, entry, target, config)]
    return _best(hosting, entry, config, classes, holes) or _best(rows, entry, config, classes, holes)


def _stays_within(desk: Desk, entry: Queued, target: int, config: SchedulingConfig) -> bool:
    instance = desk.instance
    if not any(use.name == entry.request.slo_class and use.running + use.waiting for use in instance.classes):
        return False
    usable = instance.capacity_tokens * (1.0 - config.dispatch.watermark_share)
    return usable - desk.room + entry.tokens <= target


def _best(
    rows: list[Desk], entry: Queued, config: SchedulingConfig, classes: Classes, holes: Mapping[str, str]
) -> Desk | None:
    chosen: Desk | None = None
    top: Value = (0.0, 0.0, 0.0)
    for desk in rows:
        if desk.room < entry.tokens:
            continue
        value = value_of(desk, entry, config, classes)
        if _better(desk, value, chosen, top) and not refusal(desk, entry, config, classes, holes):
            chosen, top = desk, value
    return chosen


def _better(desk: Desk, value: Value, chosen: Desk | None, top: Value) -> bool:
    if chosen is None or value != top:
        return chosen is None or value > top
    return desk.instance.instance_id < chosen.instance.instance_id


def _pick_one(
    instances: Iterable[InstanceSnapshot],
    entry: Queued,
    ledger: Ledger,
    config: SchedulingConfig,
    classes: Classes,
    holes: Mapping[str, str],
) -> Desk | None:
    """:func:`pick` for one request alone: once one has enough room, only calmer ones are looked at."""
    if _target_tokens(entry, classes) is not None:
        return pick(desks(instances, ledger, config), entry, config, classes, holes)
    chosen: Desk | None = None
    top: Value = (0.0, 0.0, 0.0)
    calmest = 0.0
    enough = config.queue.enough_tokens
    accounted = config.dispatch.in_flight_accounting is not False
    in_flight = ledger.in_flight
    for instance in instances:
        tokens, requests = in_flight(instance.instance_id) if accounted else (0, 0)
        if instance.relative_speed / (instance.running + instance.waiting + requests + 1) < calmest:
            continue
        desk = _desk(instance, tokens, requests, config.dispatch.watermark_share)
        if desk.room < entry.tokens:
            continue
        value = calm_value(desk, entry.tokens, enough)
        if _better(desk, value, chosen, top) and not refusal(desk, entry, config, classes, holes):
            chosen, top = desk, value
            calmest = value[1] if value[0] >= enough else 0.0
    return chosen


# ---------------------------------------------------------------------------------- holes


def open_holes(
    snapshot: ClusterSnapshot, before: Mapping[str, str], config: SchedulingConfig, ledger: Ledger
) -> tuple[tuple[Hole | Migrate, ...], dict[str, str]]:
    """Keep an instance free for the longest waiter, and make room there if it must be made.

    ``before`` and the result say which request an instance is kept for. The instance with
    the smallest deficit is taken, if the others have room for that deficit; there is one
    hole at a time, since each costs the others an instance.
    """
    waiter = _most_patient(snapshot, config)
    if waiter is None:
        return (), {}
    rows = desks(snapshot.instances, ledger, config)
    rows = [desk for desk in rows if not filters.for_request(desk.instance, waiter, config)]
    tokens = waiter.prompt_tokens + waiter.generated_tokens
    kept = next((i for i, request_id in before.items() if request_id == waiter.request_id), "")
    desk = next((desk for desk in rows if desk.instance.instance_id == kept), None) or _cheapest(rows, tokens)
    if desk is None:
        return (), {}
    instance_id = desk.instance.instance_id
    decisions: list[Hole | Migrate] = []
    if instance_id != kept:
        decisions.append(Hole(waiter.request_id, instance_id, tokens))
    move = _make_room(desk, rows, tokens, config)
    if move is not None:
        decisions.append(move)
    return tuple(decisions), {instance_id: waiter.request_id}


def _most_patient(snapshot: ClusterSnapshot, config: SchedulingConfig) -> RequestProfile | None:
    after_s = config.queue.hole_after_s
    if not after_s:
        return None
    long_ago = snapshot.taken_at_s - after_s
    waited = [waiter for waiter in snapshot.waiters if waiter.arrived_at_s < long_ago]
    return min(waited, key=lambda waiter: (waiter.arrived_at_s, waiter.request_id), default=None)


def deficit(desk: Desk, tokens: int) -> float:
    """How much room an instance lacks for a request of ``tokens``; negative when it fits."""
    return demand_tokens(tokens, desk.instance.block_size_tokens) - desk.room


def _cheapest(rows: list[Desk], tokens: int) -> Desk | None:
    """Smallest deficit first; the others together must be able to take it."""
    room = sum(max(0.0, desk.room) for desk in rows)
    for desk in sorted(rows, key=lambda desk: (deficit(desk, tokens), desk.instance.instance_id)):
        if deficit(desk, tokens) <= room - max(0.0, desk.room):
            return desk
    return None


def _make_room(desk: Desk, rows: list[Desk], tokens: int, config: SchedulingConfig) -> Migrate | None:
    need = int(deficit(desk, tokens))
    source = desk.instance
    if need <= 0 or not source.running or filters.has_migration_slot(source):
        return None
    takers = [
        other
        for other in rows
        if other is not desk
        and other.room > 0
        and not other.instance.waiting
        and not filters.has_migration_slot(other.instance)
    ]
    best = max(takers, key=lambda other: (other.room, other.instance.instance_id), default=None)
    if best is None:
        return None
    return Migrate(source.instance_id, best.instance.instance_id, "hole", int(best.room), 1, "cover", need)
