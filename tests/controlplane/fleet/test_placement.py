from __future__ import annotations

from typing import Any

import pytest

from controlplane.fleet.agents import Placement
from controlplane.fleet.placement import placement_problem


def node(*, alive: bool = True, labels: dict[str, str] | None = None, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Labels": labels or {}, "Resources": resources}


BIG = node(CPU=8.0, GPU=2.0, memory=100.0, labels={"zone": "a"})
SMALL = node(CPU=1.0, fast_disk=1.0, labels={"zone": "b"})
HEAD = node()
DEAD = node(alive=False, CPU=99.0, GPU=99.0)


@pytest.mark.parametrize(
    ("placement", "problem"),
    [
        (Placement(), ""),
        (Placement({"num_gpus": 2}), ""),
        (Placement({"num_gpus": 4}), "num_gpus=4 (the most on one node: 2)"),
        (Placement({"fast_disk": 1}), ""),
        (Placement({"num_cpus": 8, "fast_disk": 1}), "all at once"),
        (Placement({"memory": 200}), "memory=200"),
        (Placement({}, {"zone": "a"}), ""),
        (Placement({}, {"zone": "c"}), "none of the 3 nodes of the Ray cluster has the labels zone=c"),
        (Placement({"num_gpus": 1}, {"zone": "b"}), "num_gpus=1 (the most on one node: 0)"),
        (Placement({}, {"zone": "in(c, b)"}), ""),
        (Placement({"num_gpus": 1}, {"zone": "!b"}), ""),
        (Placement({"fast_disk": 1}, {"zone": "!in(b,c)"}), "fast_disk=1"),
    ],
)
def test_what_no_node_can_ever_take_is_said(placement, problem):
    found = placement_problem(placement, [BIG, SMALL, HEAD, DEAD])
    assert (problem in found) if problem else not found, found


def test_a_cluster_without_living_nodes_takes_nothing():
    assert placement_problem(Placement(), [DEAD]) == "the Ray cluster has no living node"
