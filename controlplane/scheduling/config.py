"""Configuration of the policy core: frozen, validated, serialisable.

A policy's name fixes *which* rules apply (see ``policies.py``); the numbers below
say how they are set. All memory is in tokens, all times in seconds. Bad input is
refused with :class:`ConfigError`, which names the field and the allowed range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any, Self

POLICY_NAMES = (
    "round_robin",
    "least_outstanding",
    "infaas++",
    "llumnix_base",
    "llumnix",
    "llumnix_ledger",
    "llumdeck",
)
DEFAULT_POLICY = "llumdeck"
REQUEST_ORDERS = ("shortest", "latest", "longest")


class ConfigError(ValueError):
    """A field of the configuration is unknown, of the wrong type or out of range.

    ``field`` is its dotted path; ``str(error)`` is a sentence for people.
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.field = path


def _number(default: float, low: float, high: float) -> Any:
    return field(default=default, metadata={"range": (low, high)})


def _choice(default: str, allowed: tuple[str, ...]) -> Any:
    return field(default=default, metadata={"allowed": allowed})


@dataclass(frozen=True, slots=True)
class DispatchConfig:
    """Who may get new work, and how it is scored."""

    staleness_limit_s: float = _number(10.0, 0.05, 3600.0)
    """An instance whose report is older takes no new work."""
    watermark_share: float = _number(0.01, 0.0, 0.5)
    """Share of an instance's memory that admission leaves free (vLLM's watermark)."""
    in_flight_accounting: bool | None = None
    """Subtract what was sent since the report's stamp; ``None`` = as the policy says."""
    unprefilled_limit_tokens: int = _number(2048, 0, 10_000_000)
    """Late binding: prompts not yet prefilled on one instance, the new one included; 0 = no limit."""

    def __post_init__(self) -> None:
        _check(self, "dispatch")


@dataclass(frozen=True, slots=True)
class QueueConfig:
    """Late binding: the queue in front of the fleet (``queueing.py``)."""

    beta_s_per_token: float = _number(0.02, 0.0, 10.0)
    """Order is arrival + beta x prompt tokens; 0 is first come, first served."""
    beta_limit_s: float = _number(10.0, 0.0, 86_400.0)
    """How much later length may make a request at most, however long it is: nobody is put off for ever."""
    enough_tokens: float = _number(24.0, 0.0, 1_000_000.0)
    """Room per request at which an instance has enough; above it the calmest instance is taken."""
    reserve_tokens: float = _number(24.0, 0.0, 1_000_000.0)
    """While pre-empted requests wait: room per request that must be left where anyone starts; 0 = off."""
    max_skips: int = _number(64, 0, 100_000)
    """How many requests that fit nowhere a walk may pass over."""
    hole_after_s: float = _number(10.0, 0.0, 86_400.0)
    """A request waiting longer gets a hole; 0 = never."""
    rehome: bool = True
    """Pre-empted requests return to the fleet's queue (their cache is lost anyway)."""
    rehome_credit_s: float = _number(120.0, 0.0, 3600.0)
    """How much earlier than now a pre-empted request is queued."""
    rehome_beta_s_per_token: float = _number(0.2, 0.0, 10.0)
    """How much later for each token it must recompute: short contexts return before new requests."""
    rehome_below_share: float = _number(10.0, 0.0, 10.0)
    """Re-home only while the demand on the whole fleet is below this share of its memory; 10 = always."""

    def __post_init__(self) -> None:
        _check(self, "queue")


@dataclass(frozen=True, slots=True)
class ReschedulingConfig:
    """Who hands work to whom (``rescheduling.py``)."""

    enabled: bool = True
    source_threshold_tokens: float = _number(48.0, 0.0, 1_000_000.0)
    """An instance with less freeness (tokens per running request) is a source. Paper: 3 blocks of 16."""
    destination_threshold_tokens: float = _number(48.0, 0.0, 1_000_000.0)
    """A destination must have more freeness. At least the source threshold."""
    source_free_share: float = _number(0.0, 0.0, 0.9)
    """Also a source when less than this share of its memory is free; 0 = off."""
    hysteresis_share: float = _number(0.0, 0.0, 4.0)
    """A source stays one until its freeness passes threshold x (1 + this)."""
    request_order: str = _choice("latest", REQUEST_ORDERS)
    """Which request leaves first within the lowest priority (``engine_agents.selection``)."""
    max_requests: int = _number(1, 1, 10_000)
    drain_max_requests: int = _number(4, 1, 10_000)
    """Requests one decision may move off a draining instance."""
    drain_slots: int = _number(4, 1, 1_000)
    """Migrations a draining instance may have under way at once."""
    max_pairs: int = _number(256, 1, 100_000)
    """Decisions per round."""

    def __post_init__(self) -> None:
        _check(self, "rescheduling")
        if self.destination_threshold_tokens < self.source_threshold_tokens:
            raise ConfigError(
                "rescheduling.destination_threshold_tokens",
                f"must be at least source_threshold_tokens ({self.source_threshold_tokens:g}), "
                f"got {self.destination_threshold_tokens:g}; else a destination would at once be a source",
            )


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """Is the fleet too small or too large? (``scaling.py``)"""

    enabled: bool = False
    min_instances: int = _number(1, 1, 100_000)
    max_instances: int = _number(16, 1, 100_000)
    low_freeness_tokens: float = _number(160.0, 0.0, 1_000_000.0)
    """Add instances while the mean freeness is below. Paper: 10 blocks."""
    high_freeness_tokens: float = _number(960.0, 0.0, 1_000_000.0)
    """Drain one while it is above. Paper: 60 blocks."""
    interval_s: float = _number(10.0, 0.01, 86_400.0)
    """Between two looks."""
    cooldown_s: float = _number(10.0, 0.0, 86_400.0)
    """After a change in either direction, no scale-down for so long."""
    up_cooldown_s: float = _number(0.0, 0.0, 86_400.0)
    """After a change in either direction, no scale-up for so long (but for the least number); 0 = none."""

    def __post_init__(self) -> None:
        _check(self, "scaling")
        if self.max_instances < self.min_instances:
            raise ConfigError(
                "scaling.max_instances",
                f"must be at least min_instances ({self.min_instances}), got {self.max_instances}",
            )
        if self.high_freeness_tokens <= self.low_freeness_tokens:
            raise ConfigError(
                "scaling.high_freeness_tokens",
                f"must be above low_freeness_tokens ({self.low_freeness_tokens:g}), "
                f"got {self.high_freeness_tokens:g}",
            )


@dataclass(frozen=True, slots=True)
class SchedulingConfig:
    """Everything the core is told. The other ways in give a policy's own numbers."""

    policy: str = _choice(DEFAULT_POLICY, POLICY_NAMES)
    dispatch: DispatchConfig = field(default_factory=DispatchConfig)
    queue: QueueConfig = field(default_factory=QueueConfig)
    rescheduling: ReschedulingConfig = field(default_factory=ReschedulingConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)

    def __post_init__(self) -> None:
        _check(self, "")

    @classmethod
    def recommended(cls) -> Self:
        """What a fleet runs by until somebody decides otherwise."""
        return cls.for_policy(DEFAULT_POLICY)

    @classmethod
    def for_policy(cls, policy: str, **parts: Mapping[str, Any]) -> Self:
        """The policy's recommended numbers, with ``parts`` laid over them, part by part."""
        return cls.from_dict({"policy": policy, **parts})

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`; what is missing takes the policy's recommended number.

        Raises :class:`ConfigError` for anything that is not as documented here.
        """
        if not isinstance(data, Mapping):
            raise ConfigError("config", f"must be a mapping, got {type(data).__name__}")
        policy = data.get("policy", DEFAULT_POLICY)
        if policy not in POLICY_NAMES:
            raise ConfigError("policy", f"must be one of {', '.join(POLICY_NAMES)}; got {policy!r}")
        config: Self = _read(cls(policy=policy, **PRESETS.get(policy, {})), data, "")
        return config

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON types only)."""
        return _plain(self)


def _check(part: Any, path: str) -> None:
    for each in fields(part):
        _check_field(each, getattr(part, each.name), f"{path}.{each.name}" if path else each.name)


def _check_field(spec: Field[Any], value: Any, path: str) -> None:
    limits = spec.metadata.get("range")
    if limits is not None:
        _check_number(value, limits, path, integer=spec.type == "int")
        return
    allowed = spec.metadata.get("allowed")
    if allowed is not None:
        if value not in allowed:
            raise ConfigError(path, f"must be one of {', '.join(allowed)}; got {value!r}")
    elif spec.type == "bool" and not isinstance(value, bool):
        raise ConfigError(path, f"must be true or false, got {value!r}")
    elif spec.type == "bool | None" and not (value is None or isinstance(value, bool)):
        raise ConfigError(path, f"must be true, false or null, got {value!r}")


def _check_number(value: Any, limits: tuple[float, float], path: str, *, integer: bool) -> None:
    low, high = limits
    kinds = int if integer else (int, float)
    noun = "a whole number" if integer else "a number"
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise ConfigError(path, f"must be {noun} from {low:g} to {high:g}, got {value!r}")
    if not math.isfinite(value) or not low <= value <= high:
        raise ConfigError(path, f"must be {noun} from {low:g} to {high:g}, got {value:g}")


def _read(base: Any, data: Mapping[str, Any], path: str) -> Any:
    known = {each.name for each in fields(base)}
    changes: dict[str, Any] = {}
    for name, value in data.items():
        here = f"{path}.{name}" if path else str(name)
        if name not in known:
            raise ConfigError(here, f"unknown; known are {', '.join(sorted(known))}")
        current = getattr(base, name)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                raise ConfigError(here, f"must be a mapping, got {type(value).__name__}")
            value = _read(current, value, here)
        changes[name] = value
    return replace(base, **changes)


def _plain(part: Any) -> dict[str, Any]:
    values = {each.name: getattr(part, each.name) for each in fields(part)}
    return {name: _plain(value) if is_dataclass(value) else value for name, value in values.items()}


PRESETS: dict[str, dict[str, Any]] = {
    "llumdeck": {
        "rescheduling": ReschedulingConfig(
            source_threshold_tokens=160.0,
            destination_threshold_tokens=160.0,
            request_order="longest",
        ),
        "scaling": ScalingConfig(low_freeness_tokens=160.0, high_freeness_tokens=560.0),
    },
}
"""Where a policy's recommended numbers differ from the defaults above."""
