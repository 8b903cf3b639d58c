"""Can an agent be placed at all? Judged by what nodes have, not by what is free at the moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.fleet.agents import Placement

NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


def placement_problem(placement: Placement, nodes: Sequence[Mapping[str, Any]]) -> str:
    """Why no living node can ever take it, as a sentence; empty when one can.

    ``nodes`` as ``ray.nodes()`` lists them.
    """
    alive = [node for node in nodes if node.get("Alive")]
    if not alive:
        return "the Ray cluster has no living node"
    labelled = [node for node in alive if _has_labels(node, placement.node_labels)]
    if not labelled:
        wanted = ", ".join(f"{key}={value}" for key, value in placement.node_labels.items())
        return f"none of the {len(alive)} nodes of the Ray cluster has the labels {wanted}"
    wanted_amounts = {"num_cpus": 1.0} | dict(placement.resources)
    if any(_has_resources(node, wanted_amounts) for node in labelled):
        return ""
    lacking = [
        f"{name}={amount:g} (the most on one node: {_most(labelled, name):g})"
        for name, amount in wanted_amounts.items()
        if _most(labelled, name) < amount
    ]
    what = ", ".join(lacking) or "all at once what is asked for"
    return f"no node of the Ray cluster can offer {what}"


def _has_resources(node: Mapping[str, Any], wanted: Mapping[str, float]) -> bool:
    return all(_amount(node, name) >= amount for name, amount in wanted.items())


def _amount(node: Mapping[str, Any], name: str) -> float:
    return float((node.get("Resources") or {}).get(NAMES.get(name, name), 0.0))


def _most(nodes: Sequence[Mapping[str, Any]], name: str) -> float:
    return max(_amount(node, name) for node in nodes)


def _has_labels(node: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    labels: Mapping[str, str] = node.get("Labels") or {}
    return all(_label_fits(labels.get(key), rule) for key, rule in wanted.items())


def _label_fits(value: str | None, rule: str) -> bool:
    """Ray's selectors: ``a``, ``!a``, ``in(a,b)``, ``!in(a,b)``."""
    if rule.startswith("!"):
        return not _label_fits(value, rule[1:])
    if rule.startswith("in(") and rule.endswith(")"):
        return value in {each.strip() for each in rule[3:-1].split(",")}
    return value == rule
