"""Who should hand work to whom? The paper's pairing of sources and destinations.

Source: Llumnix (OSDI'24), section 4.4. Sources are instances whose freeness is below a
threshold, or that had to pre-empt, or that drain; destinations have more freeness than
their threshold. The worst source meets the best destination, the next the next. A
decision names source, destination, rule and budget; which requests go is the source's
choice (``engine_agents.selection``).

The budget leaves the destination at its threshold or above, which is never below the
source threshold: what was moved once is not moved back on a cluster that stands still.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.scheduling import filters
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Migrate
from controlplane.scheduling.ledger import NO_LEDGER, Ledger
from controlplane.scheduling.load import Classes, batch_size, class_headroom_tokens, freeness, rank_of
from controlplane.scheduling.snapshot import ClusterSnapshot, InstanceSnapshot


def effective_threshold(tokens_per_request: float, instance: InstanceSnapshot) -> float:
    """A threshold on this instance: at least one of its blocks per request.

    A request takes memory block by block, so less than one block is no reserve at all
    (the paper's 48 tokens are three blocks of 16; engines on CPUs have blocks of 128).
    """
    return max(tokens_per_request, float(instance.block_size_tokens))


def source_rule(instance: InstanceSnapshot, value: float, was_source: bool, config: SchedulingConfig) -> str:
    """Why this instance should hand work away (``drain``, ``preempted``, ``load``), or ""."""
    rules = config.rescheduling
    if not instance.running:
        return ""
    if instance.draining:
        return "drain"
    if instance.preempted:
        return "preempted"
    limit = rules.source_threshold_tokens
    if limit < instance.block_size_tokens:
        limit = instance.block_size_tokens
    if was_source:
        limit *= 1.0 + rules.hysteresis_share
    if value < limit:
        return "load"
    if (
        rules.source_free_share
        and value * batch_size(instance) < rules.source_free_share * instance.capacity_tokens
    ):
        return "load"
    return ""


def destination_reason(
    instance: InstanceSnapshot, value: float, ledger: Ledger, config: SchedulingConfig
) -> str:
    """Why this instance cannot take work from others; "" when it can."""
    reason = filters.accepting(instance) or filters.fresh(instance, config.dispatch.staleness_limit_s)
    if reason:
        return reason
    if instance.preempted:
        return "preempted"
    if value <= effective_threshold(config.rescheduling.destination_threshold_tokens, instance):
        return "not_free_enough"
    if instance.waiting or ledger.in_flight(instance.instance_id)[1]:
        return "has_work_coming"
    return filters.has_migration_slot(instance)


def budget_tokens(destination: InstanceSnapshot, config: SchedulingConfig) -> int:
    """What the destination can take and still have its threshold's freeness with one request more."""
    threshold = effective_threshold(config.rescheduling.destination_threshold_tokens, destination)
    usable = destination.capacity_tokens * (1.0 - config.dispatch.watermark_share)
    free = usable - destination.used_tokens - destination.reserved_tokens - destination.queued_tokens
    return max(0, int(free - threshold * (destination.running + 1)))


Rated = tuple[float, str, InstanceSnapshot]
"""``(freeness, id, instance)``"""


def sources(
    instances: Iterable[InstanceSnapshot],
    classes: Classes,
    before: frozenset[str],
    config: SchedulingConfig,
) -> list[tuple[float, str, str, InstanceSnapshot]]:
    """``(freeness, id, rule, instance)``, the worst first; draining ones first of all."""
    found: list[tuple[float, str, str, InstanceSnapshot]] = []
    rules = config.rescheduling
    threshold, any_free_share = rules.source_threshold_tokens, rules.source_free_share
    for instance in instances:
        value = freeness(instance, classes)
        if (
            value >= threshold
            and value >= instance.block_size_tokens
            and not (instance.preempted or any_free_share or instance.instance_id in before)
        ):
            continue
        was_source = instance.instance_id in before
        rule = source_rule(instance, value, was_source, config)
        if rule == "load" and classes and instance.classes:
            rule = _whose_load(instance, was_source, classes, config)
        if rule and instance.age_s <= config.dispatch.staleness_limit_s and _may_send(instance, config):
            found.append((value, instance.instance_id, rule, instance))
    found.sort(key=lambda row: row[:2])
    return found


def _whose_load(
    instance: InstanceSnapshot, was_source: bool, classes: Classes, config: SchedulingConfig
) -> str:
    """``load`` when memory is short, ``headroom`` when others are in a class's headroom, "" when only it is.

    Headroom is for the class that holds it: moving its own requests away to make it
    would open it on one instance more, and drive others off there too.
    """
    if source_rule(instance, freeness(instance, {}), was_source, config):
        return "load"
    spared = spared_below(instance, classes)
    stay = sum(use.running for use in instance.classes if rank_of(use.name, classes) < spared)
    return "headroom" if instance.running > stay else ""


def spared_below(instance: InstanceSnapshot, classes: Classes) -> int:
    """Who makes way for headroom on this instance: ranks from here on; those before it stay."""
    holding = [
        rank_of(use.name, classes)
        for use in instance.classes
        if use.running
        and (rule := classes.get(use.name)) is not None
        and class_headroom_tokens(instance, rule)
    ]
    return min(holding, default=-1) + 1


def _may_send(instance: InstanceSnapshot, config: SchedulingConfig) -> bool:
    slots = config.rescheduling.drain_slots if instance.draining else instance.migration_slots
    return not filters.has_migration_slot(instance, slots)


def destinations(rated: list[Rated], ledger: Ledger, config: SchedulingConfig) -> list[Rated]:
    """Who can take work, the freest first."""
    found = [row for row in rated if not destination_reason(row[2], row[0], ledger, config)]
    found.sort(key=lambda row: (-row[0], row[1]))
    return found


def pair(
    snapshot: ClusterSnapshot,
    before: frozenset[str],
    config: SchedulingConfig,
    ledger: Ledger = NO_LEDGER,
    classes: Classes | None = None,
) -> tuple[tuple[Migrate, ...], frozenset[str]]:
    """The round's moves, and who is a source now (``before`` of the next round).

    ``classes`` are those whose headroom counts; the snapshot's by default.
    """
    if classes is None:
        classes = snapshot.classes
    giving = sources(snapshot.instances, classes, before, config)
    if not giving:
        return (), frozenset()
    rated = [(freeness(each, classes), each.instance_id, each) for each in snapshot.instances]
    giving_ids = frozenset(row[1] for row in giving)
    taking = [row for row in destinations(rated, ledger, config) if row[1] not in giving_ids]
    moves: list[Migrate] = []
    for (_, _, rule, source), (_, _, destination) in zip(giving, taking, strict=False):
        if len(moves) == config.rescheduling.max_pairs:
            break
        move = _move(source, destination, rule, classes, config)
        if move is not None:
            moves.append(move)
    return tuple(moves), giving_ids


def _move(
    source: InstanceSnapshot,
    destination: InstanceSnapshot,
    rule: str,
    classes: Classes,
    config: SchedulingConfig,
) -> Migrate | None:
    budget = budget_tokens(destination, config)
    if budget < destination.block_size_tokens:
        return None
    rules = config.rescheduling
    count = rules.drain_max_requests if rule == "drain" else rules.max_requests
    return Migrate(
        source.instance_id,
        destination.instance_id,
        rule,
        budget,
        count,
        rules.request_order,
        spare_rank_below=spared_below(source, classes) if rule == "headroom" else None,
    )
