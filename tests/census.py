"""What this process keeps: objects of ours by class, and entries of their containers. For tests of growth."""

from __future__ import annotations

import gc
import logging
from collections import Counter, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

OURS = ("controlplane.", "engine_agents.", "vllm.v1.core.", "vllm.v1.engine.", "vllm.v1.worker.")
"""Whose containers are looked into. Of everybody's, tasks are counted."""
PASSING = (
    "engine_agents.messages.",
    "engine_agents.engines.port.",
    "vllm.v1.worker.gpu_input_batch.CachedRequestState",
)
"""What only passes by: the last of a kind may stay until the next one comes, however much is in it."""
CONTAINERS = (dict, list, set, frozenset, tuple, deque)
DEPTH = 3
"""Containers in containers are counted so deep."""


@contextmanager
def nothing_logged() -> Iterator[None]:
    """pytest keeps records for its report, with the errors in them and all that those went through."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def census() -> Counter[str]:
    """``module.Class`` -> how many live; ``module.Class.attribute`` -> entries in all of them together.

    A container that several share, like a table of the class, counts once.
    """
    found: Counter[str] = Counter()
    counted: set[int] = set()
    for each in _tracked():
        kind = type(each)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name == "_asyncio.Task":
            found[name] += 1
        elif name.startswith(OURS):
            found[name] += 1
            for attribute, value in () if name.startswith(PASSING) else _attributes(each):
                if id(value) not in counted:
                    counted.add(id(value))
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
