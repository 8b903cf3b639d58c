"""Virtual usage and freeness: the paper's load measure, one function per rule.

Source: Llumnix (OSDI'24), section 4.4, algorithm 1. Everything is in tokens of KV
cache. Freeness is *tokens per running request*, that is the number of decode steps
the batch can make until memory ends, whatever the block size; negative means
overloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from controlplane.scheduling.snapshot import ClassRule, InstanceSnapshot

Classes = Mapping[str, ClassRule]
LOWEST_RANK = 1_000_000


def running_tokens(instance: InstanceSnapshot) -> int:
    """Rule "running, normal priority": physical usage, incoming reservations included."""
    return instance.used_tokens + instance.reserved_tokens


def head_of_line_tokens(instance: InstanceSnapshot) -> int:
    """Rule "queued": the head of the line counts with its demand, the others with nothing.

    The demand makes the instance look overloaded, so that others are migrated
    away and the space is de-fragmented for it.
    """
    return instance.head_of_line_tokens if instance.waiting else 0


def rank_of(slo_class: str, classes: Classes) -> int:
    """Scheduling priority; a class nobody declared comes last."""
    rule = classes.get(slo_class)
    return rule.rank if rule is not None else LOWEST_RANK


def hosts(instance: InstanceSnapshot, slo_class: str) -> bool:
    """Does a request of this class run or wait on the instance?"""
    return any(use.name == slo_class and use.running + use.waiting for use in instance.classes)


def class_headroom_tokens(instance: InstanceSnapshot, rule: ClassRule) -> int:
    """What a class holds of an instance where it runs: capacity minus its target load."""
    target = rule.target_load_tokens
    return 0 if target is None else max(0, instance.capacity_tokens - target)


def headroom_tokens(instance: InstanceSnapshot, classes: Classes) -> int:
    """Rule "high priority": each class with a target load holds capacity minus that target.

    The class's requests on the instance share it, so it counts once per class,
    however many they are.
    """
    total = 0
    for use in instance.classes:
        rule = classes.get(use.name)
        if rule is not None and use.running:
            total += class_headroom_tokens(instance, rule)
    return total


def virtual_usage(instance: InstanceSnapshot, classes: Classes) -> float:
    """Sum of all rules; infinite while draining (the paper's fake request)."""
    if instance.draining:
        return inf
    return running_tokens(instance) + head_of_line_tokens(instance) + headroom_tokens(instance, classes)


def batch_size(instance: InstanceSnapshot) -> int:
    """B of the paper: running requests, plus one when a queue exists; at least one."""
    return instance.running + (1 if instance.waiting else 0) or 1


def freeness(instance: InstanceSnapshot, classes: Classes) -> float:
    """F = (M - :func:`virtual_usage`) / :func:`batch_size`, in tokens per running request.

    An empty instance has all its capacity; a draining one minus infinity. Written out in
    one piece, because the loop asks it of every instance at every tick.
    """
    if instance.draining:
        return -inf
    free = instance.capacity_tokens - instance.used_tokens - instance.reserved_tokens
    requests = instance.running
    if instance.waiting:
        free -= instance.head_of_line_tokens
        requests += 1
    if classes and instance.classes:
        free -= headroom_tokens(instance, classes)
    return free / (requests or 1)


def room_tokens(instance: InstanceSnapshot, in_flight_tokens: int, watermark_share: float) -> float:
    """Memory that a new request can count on: free - watermark - queued demand - ledger."""
    return (
        instance.capacity_tokens * (1.0 - watermark_share)
        - instance.used_tokens
        - instance.reserved_tokens
        - instance.queued_tokens
        - in_flight_tokens
    )


def demand_tokens(tokens: int, block_size_tokens: int) -> int:
    """Memory that ``tokens`` of context take on an instance: whole blocks."""
    return -(-tokens // block_size_tokens) * block_size_tokens


def dispatch_freeness(room: float, requests: int, relative_speed: float) -> float:
    """Score of an instance for new work: room per request there, faster instances first.

    ``requests`` are all that run, wait or are on their way. Source: INFaaS++ of the
    paper's section 6.1, which counts the demand of the whole queue.
    """
    score = room / (requests or 1)
    return score * relative_speed if score > 0 else score / relative_speed
