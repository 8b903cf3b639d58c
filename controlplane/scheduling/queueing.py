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

from controlplane.scheduling import filters
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Hole, Migrate, Reject
from controlplane.scheduling.dispatch import FOREVER
from controlplane.scheduling.dispatch import refusal as refusal_of_all
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.placement import Desk, Queued, deficit, desks, pick, pick_one
from controlplane.scheduling.snapshot import ClusterSnapshot, InstanceSnapshot, RequestProfile


def queue_key(request: RequestProfile, config: SchedulingConfig) -> float:
    """Arrival + beta x prompt tokens, within the limit of what length may cost."""
    queue = config.queue
    return request.arrived_at_s + min(queue.beta_s_per_token * request.prompt_tokens, queue.beta_limit_s)


def rehome_key(request: RequestProfile, now: float, config: SchedulingConfig) -> float:
    """Where a pre-empted request returns to: before all new ones, but later the more it must recompute.

    A short context needs little memory to go on, so letting it through first keeps the fewest
    waiting; a long one gives the room of several.
    """
    length = request.prompt_tokens + request.generated_tokens
    return now - config.queue.rehome_credit_s + config.queue.rehome_beta_s_per_token * length


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
        self._preempted = 0

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
        self._preempted += request.generated_tokens > 0
        return entry

    def remove(self, request_id: str) -> bool:
        """Take it out (bound, aborted, gone); ``False`` when it was not here."""
        entry = self._by_id.pop(request_id, None)
        if entry is None:
            return False
        del self._order[bisect_left(self._order, entry)]
        self._tokens -= entry.tokens
        self._preempted -= entry.request.generated_tokens > 0
        return True

    def tokens(self) -> int:
        """Demand of all who wait."""
        return self._tokens

    def preempted(self) -> int:
        """How many of them had begun and lost their memory: above 0, the fleet is short of it."""
        return self._preempted

    def longest_waiting(self) -> RequestProfile | None:
        """The request that arrived first, what the loop may open a hole for."""
        if not self._order:
            return None
        return min(self._order, key=lambda entry: (entry.request.arrived_at_s, entry.number)).request


def reserve_tokens(queue: FleetQueue, config: SchedulingConfig) -> float:
    """Room per request that must be left where anyone starts: some while pre-empted requests wait."""
    return config.queue.reserve_tokens if queue.preempted() else 0.0


def place_now(
    entry: Queued,
    queue: FleetQueue,
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    config: SchedulingConfig,
    holes: Mapping[str, str],
    instances: Iterable[InstanceSnapshot] | None = None,
) -> str:
    """Where one request, in the queue or on its way there, can start now; "" when it must wait."""
    chosen = pick_one(
        snapshot.instances if instances is None else instances,
        entry,
        ledger,
        config,
        snapshot.classes,
        holes,
        reserve_tokens(queue, config),
    )
    return chosen.instance.instance_id if chosen is not None else ""


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
        chosen = place_now(only, queue, snapshot, ledger, config, holes or {}, instances) if only else ""
        return [Dispatch(request_id, chosen, rule)] if chosen else []
    rows = desks(instances, ledger, config, reserve_tokens(queue, config))
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
