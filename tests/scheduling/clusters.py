"""Builders and hypothesis strategies of what the core sees."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from controlplane.scheduling.snapshot import (
    ClassRule,
    ClassUse,
    ClusterSnapshot,
    InstanceSnapshot,
    RequestProfile,
)

examples = settings(max_examples=25, derandomize=True, deadline=None)
"""The same examples on every run, and no wall clock: machines are noisy."""

CLASSES = {
    "interactive": ClassRule("interactive", 0, target_load_tokens=1600),
    "standard": ClassRule("standard", 1),
    "batch": ClassRule("batch", 2),
}


def instance(name: str = "a", **changes: Any) -> InstanceSnapshot:
    """An idle instance of 8,192 tokens in blocks of 16, changed as told."""
    fields: dict[str, Any] = {
        "instance_id": name,
        "capacity_tokens": 8192,
        "used_tokens": 0,
        "reserved_tokens": 0,
        "running": 0,
        "waiting": 0,
        "head_of_line_tokens": 0,
        "queued_tokens": 0,
    }
    return InstanceSnapshot(**{**fields, **changes})


def cluster(*instances: InstanceSnapshot, at_s: float = 100.0, **changes: Any) -> ClusterSnapshot:
    return ClusterSnapshot(at_s, tuple(instances), **{"classes": CLASSES, **changes})


def request(name: str = "r", tokens: int = 100, at_s: float = 0.0, **changes: Any) -> RequestProfile:
    return RequestProfile(name, changes.pop("slo_class", "standard"), tokens, at_s, **changes)


@st.composite
def instances(draw: st.DrawFn, name: str = "a") -> InstanceSnapshot:
    """Any instance that could be reported: loads are consistent with counts."""
    block = draw(st.sampled_from([16, 128]))
    blocks = draw(st.integers(8, 900))
    used = draw(st.integers(0, blocks))
    reserved = draw(st.integers(0, blocks - used))
    running = draw(st.integers(1 if used else 0, 60)) if used else 0
    waiting = draw(st.integers(0, 5))
    head = draw(st.integers(1, blocks)) if waiting else 0
    hosted = draw(st.sampled_from([(), ("interactive",), ("interactive", "batch")]))
    return InstanceSnapshot(
        instance_id=name,
        capacity_tokens=blocks * block,
        used_tokens=used * block,
        reserved_tokens=reserved * block,
        running=running,
        waiting=waiting,
        head_of_line_tokens=head * block,
        queued_tokens=head * block * waiting,
        classes=tuple(ClassUse(each, running, 0, 0) for each in hosted if running),
        unprefilled_tokens=draw(st.sampled_from([0, 0, 0, 500, 5000])),
        preempted=draw(st.sampled_from([0, 0, 0, 1])) if waiting else 0,
        block_size_tokens=block,
        relative_speed=draw(st.sampled_from([1.0, 1.0, 2.0])),
        draining=draw(st.sampled_from([False, False, False, True])),
        accepting=draw(st.sampled_from([True, True, True, False])),
        age_s=draw(st.sampled_from([0.0, 0.1, 60.0])),
        migrations_in=draw(st.sampled_from([0, 0, 1])),
        migrations_out=draw(st.sampled_from([0, 0, 1])),
        migration_slots=draw(st.sampled_from([1, 2])),
    )


@st.composite
def clusters(draw: st.DrawFn, most: int = 8) -> ClusterSnapshot:
    count = draw(st.integers(1, most))
    members = tuple(draw(instances(f"i{number}")) for number in range(count))
    waiters = tuple(
        RequestProfile(f"w{number}", "standard", draw(st.integers(1, 9000)), draw(st.floats(0, 100)))
        for number in range(draw(st.integers(0, 2)))
    )
    return ClusterSnapshot(
        100.0, members, draw(st.sampled_from([{}, CLASSES])), waiters, draw(st.integers(0, 20_000))
    )


requests = st.builds(
    RequestProfile,
    request_id=st.just("r"),
    slo_class=st.sampled_from([*CLASSES, "undeclared"]),
    prompt_tokens=st.integers(1, 12_000),
    arrived_at_s=st.floats(0, 100),
    generated_tokens=st.integers(0, 500),
)
