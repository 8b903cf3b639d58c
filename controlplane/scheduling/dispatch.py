"""Where does this request go, if anywhere now? Immediate binding and the scores of all policies.

A score is a number for one instance, the greater the better. Order is strict: equal
scores are decided by instance id, so that the order of the instances never matters.
"""

from __future__ import annotations

from collections.abc import Callable

from controlplane.scheduling import filters
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Hold, Reject
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import Classes, dispatch_freeness, headroom_tokens, room_tokens
from controlplane.scheduling.snapshot import ClassRule, ClusterSnapshot, InstanceSnapshot, RequestProfile

Score = Callable[[InstanceSnapshot, Ledger, SchedulingConfig, Classes], float]

FOREVER = frozenset({"too_small", "other_model"})
"""Reasons that no waiting can mend."""


def fewest_dispatched(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, above: Classes
) -> float:
    """Round robin in the form that survives a changing fleet: who got the fewest so far."""
    return -float(ledger.sent_total(instance.instance_id))


def fewest_outstanding(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, above: Classes
) -> float:
    """Running, waiting and on the way, in units of the instance's speed."""
    _, requests = ledger.in_flight(instance.instance_id)
    return -(instance.running + instance.waiting + requests) / instance.relative_speed


def reported_freeness(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, above: Classes
) -> float:
    """Room per request as last reported, less the headroom of the classes ``above`` (none: no priorities)."""
    room = room_tokens(instance, 0, config.dispatch.watermark_share)
    if above and instance.classes:
        room -= headroom_tokens(instance, above)
    return dispatch_freeness(room, instance.running + instance.waiting, instance.relative_speed)


def accounted_freeness(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, above: Classes
) -> float:
    """:func:`reported_freeness`, less what was sent since the report."""
    tokens, requests = ledger.in_flight(instance.instance_id)
    room = room_tokens(instance, tokens, config.dispatch.watermark_share)
    if above and instance.classes:
        room -= headroom_tokens(instance, above)
    return dispatch_freeness(room, instance.running + instance.waiting + requests, instance.relative_speed)


def classes_above(classes: Classes, slo_class: str) -> dict[str, ClassRule]:
    """Classes of higher priority than ``slo_class`` that hold headroom; an unknown class is the lowest."""
    own = classes.get(slo_class)
    return {
        name: rule
        for name, rule in classes.items()
        if rule.target_load_tokens is not None and (own is None or rule.rank < own.rank)
    }


def best(
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    request: RequestProfile,
    config: SchedulingConfig,
    score: Score,
    above: Classes,
) -> InstanceSnapshot | None:
    """The kept instance with the greatest score; ties go to the smallest id."""
    chosen: InstanceSnapshot | None = None
    top = 0.0
    for instance in snapshot.instances:
        if filters.for_request(instance, request, config):
            continue
        value = score(instance, ledger, config, above)
        if chosen is None or value > top or (value == top and instance.instance_id < chosen.instance_id):
            chosen, top = instance, value
    return chosen


def bind_now(
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    request: RequestProfile,
    config: SchedulingConfig,
    score: Score,
    above: Classes,
    rule: str,
) -> Dispatch | Hold | Reject:
    """Immediate binding: the best instance, whether or not it has room; it queues there."""
    chosen = best(snapshot, ledger, request, config, score, above)
    if chosen is not None:
        return Dispatch(request.request_id, chosen.instance_id, rule)
    return refusal(snapshot, request, config)


def refusal(snapshot: ClusterSnapshot, request: RequestProfile, config: SchedulingConfig) -> Hold | Reject:
    """Nothing was kept: wait, or never?"""
    _, fell = filters.keep(
        snapshot.instances, lambda instance: filters.for_request(instance, request, config)
    )
    reasons = sorted(set(fell.values()))
    if reasons and FOREVER.issuperset(reasons):
        tokens = request.prompt_tokens + request.generated_tokens
        return Reject(request.request_id, f"no instance can ever take {tokens} tokens: {', '.join(reasons)}")
    return Hold(request.request_id, f"no instance takes work: {', '.join(reasons) or 'the fleet is empty'}")
