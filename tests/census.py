"""What this process keeps: objects of ours by class, and entries of their containers. For tests of growth."""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Collection, Iterator
from typing import Any

OURS = ("controlplane.", "engine_agents.", "vllm.v1.core.", "vllm.v1.engine.", "vllm.v1.worker.")
"""Whose containers are looked into. Of everybody's, tasks are counted."""
CONTAINERS = (dict, list, set, frozenset, tuple, deque)
DEPTH = 3
"""Containers in containers are counted so deep."""


def census() -> Counter[str]:
    """``module.Class`` -> how many live; ``module.Class.attribute`` -> entries in all of them together."""
    found: Counter[str] = Counter()
    for each in _tracked():
        kind = type(each)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name == "_asyncio.Task":
            found[name] += 1
        elif name.startswith(OURS):
            found[name] += 1
            for attribute, value in _attributes(each):
                found[f"{name}.{attribute}"] += entries(value)
    return found


def grown(before: Counter[str], now: Counter[str], least: int) -> dict[str, int]:
    """What has become more by ``least`` or more."""
    return {name: now[name] - before[name] for name in sorted(now) if now[name] - before[name] >= least}


def entries(value: Any, depth: int = DEPTH) -> int:
    """Of a container and of those inside it; 0 of anything else."""
    if not isinstance(value, CONTAINERS) or not depth:
        return 0
    inside: Collection[Any] = list(value.values() if isinstance(value, dict) else value)
    return len(inside) + sum(entries(each, depth - 1) for each in inside)


def _tracked() -> list[Any]:
    """All objects that the collector knows, those too that start-up set aside; garbage is gone."""
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    gc.collect()
    found = gc.get_objects()
    if frozen:
        gc.freeze()
    return found


def _attributes(each: Any) -> Iterator[tuple[str, Any]]:
    yield from dict(getattr(each, "__dict__", {})).items()
    for kind in type(each).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(each, name):
                yield name, getattr(each, name)
