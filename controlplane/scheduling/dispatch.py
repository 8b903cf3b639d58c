"""Where does this request go, if anywhere now? Immediate binding and the scores of all policies.

A score is a number for one instance, the greater the better. Order is strict: equal
scores are decided by instance id, so that the order of the instances never matters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from controlplane.scheduling import filters
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Hold, Reject
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import (
    Classes,
    class_headroom_tokens,
    dispatch_freeness,
    headroom_tokens,
    hosts,
    room_tokens,
)
from controlplane.scheduling.snapshot import ClassRule, ClusterSnapshot, InstanceSnapshot, RequestProfile


@dataclass(frozen=True, slots=True)
class Priorities:
    """Whose headroom counts when one request is placed. Source: Llumnix, section 4.4 and its artifact."""

    above: Classes = field(default_factory=dict)
    """Classes of higher priority: the request keeps out of their headroom where they run."""
    own: ClassRule | None = None
    """Its own class: where it does not run yet, its headroom would be new, and is rather shared."""

    def held_tokens(self, instance: InstanceSnapshot) -> int:
        """Memory of this instance that does not count as room for the request."""
        held = headroom_tokens(instance, self.above) if self.above and instance.classes else 0
        if self.own is not None and not hosts(instance, self.own.name):
            held += class_headroom_tokens(instance, self.own)
        return held


NO_PRIORITIES = Priorities()
Score = Callable[[InstanceSnapshot, Ledger, SchedulingConfig, Priorities], float]

FOREVER = frozenset({"too_small", "other_model"})
"""Reasons that no waiting can mend."""


def fewest_dispatched(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, priorities: Priorities
) -> float:
    """Round robin in the form that survives a changing fleet: who got the fewest so far."""
    return -float(ledger.sent_total(instance.instance_id))


def fewest_outstanding(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, priorities: Priorities
) -> float:
    """Running, waiting and on the way, in units of the instance's speed."""
    _, requests = ledger.in_flight(instance.instance_id)
    return -(instance.running + instance.waiting + requests) / instance.relative_speed


def reported_freeness(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, priorities: Priorities
) -> float:
    """Room per request as last reported, less the headroom that is not the request's to use."""
    room = room_tokens(instance, 0, config.dispatch.watermark_share)
    requests = instance.running + instance.waiting
    return _outside_headroom(room, priorities.held_tokens(instance), requests, instance.relative_speed)


def accounted_freeness(
    instance: InstanceSnapshot, ledger: Ledger, config: SchedulingConfig, priorities: Priorities
) -> float:
    """:func:`reported_freeness`, less what was sent since the report."""
    tokens, requests = ledger.in_flight(instance.instance_id)
    room = room_tokens(instance, tokens, config.dispatch.watermark_share)
    requests += instance.running + instance.waiting
    return _outside_headroom(room, priorities.held_tokens(instance), requests, instance.relative_speed)


def _outside_headroom(room: float, held: int, requests: int, relative_speed: float) -> float:
    """:func:`load.dispatch_freeness` of what is left beside headroom.

    Where headroom is all that is left, a division by many requests would make the fullest
    instance look best, so there the deficit counts once for each of them.
    """
    if held and room < held:
        return (room - held) * (requests or 1) / relative_speed
    return dispatch_freeness(room - held, requests, relative_speed)


def priorities_of(classes: Classes, slo_class: str) -> Priorities:
    """What a request of ``slo_class`` must respect; an unknown class is the lowest."""
    own = classes.get(slo_class)
    above = {
        name: rule
        for name, rule in classes.items()
        if rule.target_load_tokens is not None and (own is None or rule.rank < own.rank)
    }
    return Priorities(above, own)


def best(
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    request: RequestProfile,
    config: SchedulingConfig,
    score: Score,
    priorities: Priorities,
) -> InstanceSnapshot | None:
    """The kept instance with the greatest score; ties go to the smallest id."""
    chosen: InstanceSnapshot | None = None
    top = 0.0
    for instance in snapshot.instances:
        if filters.for_request(instance, request, config):
            continue
        value = score(instance, ledger, config, priorities)
        if chosen is None or value > top or (value == top and instance.instance_id < chosen.instance_id):
            chosen, top = instance, value
    return chosen


def bind_now(
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    request: RequestProfile,
    config: SchedulingConfig,
    score: Score,
    priorities: Priorities,
    rule: str,
) -> Dispatch | Hold | Reject:
    """Immediate binding: the best instance, whether or not it has room; it queues there."""
    chosen = best(snapshot, ledger, request, config, score, priorities)
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
