"""Which instance can start this request now, and which of them is best? Late binding's placement.

A :class:`Desk` is one instance during a walk of the queue: what its report and the
ledger leave, less what the walk has given it. ``refusal`` says why a request cannot
start there; ``pick`` takes the best of those where it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from controlplane.scheduling import filters
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import Classes, demand_tokens, hosts, room_tokens
from controlplane.scheduling.snapshot import InstanceSnapshot, RequestProfile


class Queued(NamedTuple):
    """One waiting request; the tuple's order is the queue's order."""

    rank: int
    key_s: float
    number: int
    """Breaks ties: the order in which they came into this queue."""
    request: RequestProfile
    tokens: int
    """Prompt and tokens so far: the memory it needs to start."""


class Desk:
    """One instance during a walk: what is left there after what the walk has already given it."""

    __slots__ = ("instance", "requests", "reserve_tokens", "room", "unprefilled")

    def __init__(
        self,
        instance: InstanceSnapshot,
        room: float,
        requests: int,
        unprefilled: int,
        reserve_tokens: float = 0.0,
    ) -> None:
        self.instance = instance
        self.room = room
        self.requests = requests
        self.unprefilled = unprefilled
        self.reserve_tokens = reserve_tokens

    def give(self, tokens: int) -> None:
        """A request of ``tokens`` is bound to it."""
        self.room -= demand_tokens(tokens, self.instance.block_size_tokens)
        self.requests += 1
        self.unprefilled += tokens


def desks(
    instances: Iterable[InstanceSnapshot],
    ledger: Ledger,
    config: SchedulingConfig,
    reserve_tokens: float = 0.0,
) -> list[Desk]:
    """What a walk sees of ``instances``, the ledger included: room, requests, prompts to prefill."""
    accounted = config.dispatch.in_flight_accounting is not False
    watermark = config.dispatch.watermark_share
    rows = []
    for instance in instances:
        tokens, requests = ledger.in_flight(instance.instance_id) if accounted else (0, 0)
        rows.append(_desk(instance, tokens, requests, watermark, reserve_tokens))
    return rows


def _desk(
    instance: InstanceSnapshot, tokens: int, requests: int, watermark_share: float, reserve_tokens: float
) -> Desk:
    return Desk(
        instance,
        room_tokens(instance, tokens, watermark_share),
        instance.running + instance.waiting + requests,
        instance.unprefilled_tokens + tokens,
        reserve_tokens,
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
    if (
        desk.reserve_tokens
        and desk.requests
        and desk.room - demand < desk.reserve_tokens * (desk.requests + 1)
    ):
        return "reserve"
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


def deficit(desk: Desk, tokens: int) -> float:
    """How much room an instance lacks for a request of ``tokens``; negative when it fits."""
    return demand_tokens(tokens, desk.instance.block_size_tokens) - desk.room


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
    target = _target_tokens(entry, classes)
    held = target is not None and target < desk.instance.capacity_tokens
    return (free_value if held else calm_value)(desk, entry.tokens, config.queue.enough_tokens)


def _target_tokens(entry: Queued, classes: Classes) -> int | None:
    rule = classes.get(entry.request.slo_class)
    return rule.target_load_tokens if rule is not None else None


def pick(
    rows: list[Desk], entry: Queued, config: SchedulingConfig, classes: Classes, holes: Mapping[str, str]
) -> Desk | None:
    """The best instance where the request can start now, or ``None``.

    A class with a target load is kept together: first on instances that host it and stay
    within its target, so that few instances are closed to the others. A target of the whole
    capacity closes none: such a class is placed like those without.
    """
    target = _target_tokens(entry, classes)
    if target is None:
        return _best(rows, entry, config, classes, holes)
    hosting = [desk for desk in rows if _stays_within(desk, entry, target, config)]
    return _fullest(hosting, entry, config, classes, holes) or _best(rows, entry, config, classes, holes)


def _stays_within(desk: Desk, entry: Queued, target: int, config: SchedulingConfig) -> bool:
    instance = desk.instance
    if target >= instance.capacity_tokens:
        return False
    if not hosts(instance, entry.request.slo_class):
        return False
    usable = instance.capacity_tokens * (1.0 - config.dispatch.watermark_share)
    return usable - desk.room + entry.tokens <= target


def _fullest(
    hosting: list[Desk], entry: Queued, config: SchedulingConfig, classes: Classes, holes: Mapping[str, str]
) -> Desk | None:
    """The one with the least room: the fewer instances host a class, the fewer are closed to others."""
    for desk in sorted(hosting, key=lambda desk: (desk.room, desk.instance.instance_id)):
        if not refusal(desk, entry, config, classes, holes):
            return desk
    return None


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


def pick_one(
    instances: Iterable[InstanceSnapshot],
    entry: Queued,
    ledger: Ledger,
    config: SchedulingConfig,
    classes: Classes,
    holes: Mapping[str, str],
    reserve_tokens: float = 0.0,
) -> Desk | None:
    """:func:`pick` for one request alone: once one has enough room, only calmer ones are looked at."""
    if _target_tokens(entry, classes) is not None:
        return pick(desks(instances, ledger, config, reserve_tokens), entry, config, classes, holes)
    chosen: Desk | None = None
    top: Value = (0.0, 0.0, 0.0)
    calmest = 0.0
    enough = config.queue.enough_tokens
    accounted = config.dispatch.in_flight_accounting is not False
    in_flight, watermark = ledger.in_flight, config.dispatch.watermark_share
    for instance in instances:
        tokens, sent = in_flight(instance.instance_id) if accounted else (0, 0)
        requests = instance.running + instance.waiting + sent + 1
        calm = instance.relative_speed / requests
        if calm < calmest:
            continue
        left = room_tokens(instance, tokens, watermark) - entry.tokens
        per_request = left / requests
        value = (per_request if per_request < enough else enough, calm, left)
        if left < 0.0 or (chosen is not None and value < top):
            continue
        desk = _desk(instance, tokens, sent, watermark, reserve_tokens)
        if _better(desk, value, chosen, top) and not refusal(desk, entry, config, classes, holes):
            chosen, top = desk, value
            calmest = calm if per_request >= enough else 0.0
    return chosen
