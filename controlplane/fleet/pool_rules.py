"""What may stand in a pool's free-form fields; each check raises ``ValidationError`` saying what is right."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from django.core.exceptions import ValidationError

LEAST_KV_MEMORY_BYTES = 2**20
LARGEST_ENGINE_ARGS_BYTES = 16_384
MOST_RESOURCES = 32
ARGUMENT = re.compile(r"^[a-z][a-z0-9_]{0,79}$")
RESOURCE = re.compile(r"^[A-Za-z][\w.:/-]{0,79}$")
LABEL_KEY = re.compile(r"^[A-Za-z0-9][\w./-]{0,127}$")
LABEL_VALUE = re.compile(r"^!?(in\()?[\w., -]{1,200}\)?$")
OURS = frozenset(
    {
        "model",
        "served_model_name",
        "kv_cache_memory_bytes",
        "scheduler_cls",
        "scheduling_policy",
        "async_scheduling",
        "disable_log_stats",
        "worker_cls",
        "worker_extension_cls",
    }
)
"""Engine arguments that the agent sets itself; a pool has fields for what of them can be chosen."""
COUNTS = ("num_cpus", "num_gpus", "memory")
LEAST_COPY_BYTES_PER_S = 2**20
"""With less, the rest after one chunk would be longer than a stage's patience."""
WAYS = ("auto", "shm", "nixl", "zmq")
MIGRATION_RANGES: dict[str, tuple[type, float, float]] = {
    "migration_slots": (int, 0, 64),
    "max_stages": (int, 0, 64),
    "copy_share": (float, 0.001, 1),
    "urgent_copy_share": (float, 0.001, 1),
    "copy_bytes_per_s": (float, 0, 2**50),
    "stage_timeout_s": (float, 0.1, 3600),
    "commit_timeout_s": (float, 0.1, 3600),
    "reservation_ttl_s": (float, 0.1, 3600),
}
"""Of ``AgentConfig``, what a pool may say of moves: kind, least, most. ``transfer`` is one of the ways."""


def check_engine_args(value: Any) -> None:
    """Names as the engine knows them, values of JSON; what the agent sets itself is refused."""
    _require_mapping(value, "engine_args", '{"max_model_len": 4096}')
    for name in value:
        if not ARGUMENT.match(name):
            raise ValidationError(f"{name!r} is no argument's name: use vLLM's, such as max_model_len")
        if name in OURS:
            raise ValidationError(f"{name} is set by Llumdeck: leave it out (see the pool's own fields)")
    size = len(json.dumps(value))
    if size > LARGEST_ENGINE_ARGS_BYTES:
        raise ValidationError(f"{size} bytes of arguments; at most {LARGEST_ENGINE_ARGS_BYTES}")


def check_migration_args(value: Any) -> None:
    """How requests move between a pool's engines: fields of ``AgentConfig``, by name."""
    _require_mapping(value, "migration_args", '{"copy_share": 0.1}')
    for name, given in value.items():
        if name == "transfer":
            if given not in WAYS:
                raise ValidationError(f"transfer: {given!r} is no way: one of {', '.join(WAYS)}")
        elif name in MIGRATION_RANGES:
            _check_range(name, given, *MIGRATION_RANGES[name])
        else:
            known = ", ".join(["transfer", *MIGRATION_RANGES])
            raise ValidationError(f"{name!r} is unknown: there are {known}")
    if 0 < value.get("copy_bytes_per_s", 0) < LEAST_COPY_BYTES_PER_S:
        raise ValidationError(f"copy_bytes_per_s: 0 (no limit) or at least {LEAST_COPY_BYTES_PER_S}")


def _check_range(name: str, given: Any, kind: type, least: float, most: float) -> None:
    numbers = (int, float) if kind is float else (int,)
    if isinstance(given, bool) or not isinstance(given, numbers) or not least <= given <= most:
        what = "a number" if kind is float else "a whole number"
        raise ValidationError(f"{name}: must be {what} from {least:g} to {most:g}, is {given!r}")


def check_resources(value: Any) -> None:
    """``num_cpus``, ``num_gpus``, ``memory`` in bytes, and custom resources by name; numbers from 0 on."""
    _require_mapping(value, "resources", '{"num_cpus": 1, "num_gpus": 1}')
    if len(value) > MOST_RESOURCES:
        raise ValidationError(f"{len(value)} resources; at most {MOST_RESOURCES}")
    for name, amount in value.items():
        _check_resource(name, amount)


def _check_resource(name: str, amount: Any) -> None:
    if name in {"CPU", "GPU"}:
        raise ValidationError(f"{name}: write num_{name.lower()}s")
    if not RESOURCE.match(name):
        raise ValidationError(f"{name!r} is no resource's name: letters, digits, . : / _ and -")
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not math.isfinite(amount):
        raise ValidationError(f"{name}: {amount!r} is not a number")
    if amount < 0:
        raise ValidationError(f"{name}: {amount:g} is negative")
    if amount > 1 and amount != int(amount):
        raise ValidationError(f"{name}: {amount:g}: above 1 only whole numbers")


def check_node_labels(value: Any) -> None:
    _require_mapping(value, "node_labels", '{"zone": "a"}')
    if len(value) > MOST_RESOURCES:
        raise ValidationError(f"{len(value)} labels; at most {MOST_RESOURCES}")
    for key, wanted in value.items():
        if not LABEL_KEY.match(key):
            raise ValidationError(f"{key!r} is no label's key: letters, digits, . / _ and -")
        if not isinstance(wanted, str) or not LABEL_VALUE.match(wanted):
            raise ValidationError(
                f'{key}: {wanted!r} is no label\'s value: "a", "!a", "in(a,b)" or "!in(a,b)"'
            )


def check_python(value: str) -> None:
    if value and (not value.startswith("/") or any(character.isspace() for character in value)):
        raise ValidationError("give the full path of an interpreter, e.g. /opt/vllm-next/bin/python")


def _require_mapping(value: Any, name: str, example: str) -> None:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValidationError(f"{name} must be an object of names and values, e.g. {example}")
