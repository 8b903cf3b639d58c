"""What a screen shows of an instance is what the scheduler sees of it."""

from __future__ import annotations

import random

import pytest

from console.dashboard import shapes
from controlplane.fleet.live_status import SeenStatus, to_cluster_snapshot
from controlplane.scheduling.load import freeness, headroom_tokens
from controlplane.scheduling.snapshot import ClassRule
from engine_agents.messages import ClassLoad
from tests.controlplane import builders

RULES = {
    "interactive": ClassRule("interactive", 0, 9_600),
    "standard": ClassRule("standard", 1, None),
    "batch": ClassRule("batch", 2, None),
}


def any_report(rng: random.Random):
    names = rng.sample([*RULES, "of-old"], rng.randrange(5))
    return builders.status(
        "main-1",
        pool="main",
        accepting=rng.random() < 0.8,
        used_blocks=rng.randrange(700),
        reserved_blocks=rng.randrange(100),
        running=rng.randrange(20),
        waiting=rng.randrange(3),
        head_of_line_blocks=rng.randrange(90),
        queued_blocks=rng.randrange(200),
        per_class=[
            ClassLoad(slo_class=name, running=rng.randrange(3), waiting=rng.randrange(2), used_blocks=9)
            for name in names
        ],
    )


@pytest.mark.parametrize("seed", range(50))
def test_freeness_and_headroom_are_those_of_the_scheduler_s_own_snapshot(seed):
    report = any_report(random.Random(seed))
    shown = shapes.instance_shape("main-1", row=None, status=report, rules=RULES, heard_at=1.0)
    cluster = to_cluster_snapshot([SeenStatus(report, 0.0)], pool="main", classes=RULES, taken_at_s=0.0)
    value = freeness(cluster.instances[0], RULES)
    assert shown["freeness"] == (round(value, 1) if report.accepting else None)
    free = report.total_blocks - report.used_blocks - report.reserved_blocks
    held = headroom_tokens(cluster.instances[0], RULES) // report.block_size_tokens
    assert shown["headroom_blocks"] == max(0, min(held, free))
