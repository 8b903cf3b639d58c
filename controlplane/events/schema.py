"""One dataclass per live event: what is shown to people as it happens.

Pure data, no IO. An event crosses processes as one line of JSON (:func:`encode`)
on the channel ``events``; :func:`decode` refuses an event type or a field that is
not declared here, so that a producer and the dashboard cannot drift apart
silently. Times are wall-clock seconds of the producer, for display.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import msgspec


class EventError(ValueError):
    """The bytes are not an event of this schema; the text says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all live events."""

    at_s: float

    @classmethod
    def of(cls, *, at: datetime, **fields: Any) -> Self:
        """The event at an aware ``datetime``."""
        return cls(at_s=at.timestamp(), **fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it travels: ``{"type": …, …fields}``."""
        return {"type": event_type(self), **dataclasses.asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationChanged(Event):
    """A request's migration began, went on or ended (a row ``RequestMigration`` was written)."""

    migration_id: str
    request_id: str
    source_id: str
    destination_id: str
    rule: str
    why: str
    state: str
    """As ``MigrationOutcome.state``, or ``requested`` / ``refused`` before the agent took it."""
    reason: str = ""
    slo_class: str = ""
    tenant: str = ""
    downtime_ms: float | None = None
    actor: str = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceChanged(Event):
    """An instance's row changed its state."""

    instance_id: str
    state: str
    """State of the row: ``starting``, ``ready``, ``draining``, ``drained``, ``stopped``, ``dead`` …"""
    previous: str = ""
    actor: str = "system"
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantClassChanged(Event):
    """A tenant's SLO class was changed."""

    tenant: str
    slo_class: str
    previous: str
    actor: str
    reason: str = ""
    apply_to_running: bool = False
    """Requests that run or wait follow, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenancyChanged(Event):
    """Something about tenants was written: gateways ask anew for the keys that it concerns."""

    kind: str
    """``tenant``, ``api_key``, ``slo_class``, ``quota``, ``boost``, ``person``"""
    name: str
    tenant: str
    """Slug of the tenant it concerns; empty: it may concern all."""
    action: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopChanged(Event):
    """The rebalancing loop got a new leader, or lost its leader."""

    leader: str
    """Empty: nobody leads."""
    lease_epoch: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlanned(Event):
    """A round of the rebalancing loop decided something."""

    round_id: int
    policy: str
    decisions: int
    summary: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged(Event):
    """Another version of a pool's policy is active."""

    pool: str
    version: int
    policy: str
    previous: int | None
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfChanged(Event):
    """A what-if job was asked for, began or ended."""

    job_id: int
    state: str
    problem: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAdded(Event):
    """Somebody (or the system) did something that is kept in the audit list."""

    entry_id: int
    actor: str
    action: str
    object_type: str
    object_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolScaled(Event):
    """A pool's size was changed, or a change was held back (a row ``ScalingRecord`` was written)."""

    pool: str
    action: str
    """``up``, ``down``, ``cancel_down``, ``drain``, ``hold``, ``resume``"""
    target: int
    previous: int
    actor: str = "system"
    reason: str = ""
    problem: str = ""
    """Why it was not carried out; empty: it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertChanged(Event):
    """An alert began to fire, was acknowledged, or ended."""

    alert_id: int
    rule: str
    subject: str
    severity: str
    state: str
    """``pending``, ``firing``, ``resolved``"""
    summary: str
    acknowledged_by: str = ""
    actor: str = "system:alerts"


TYPES: dict[str, type[Event]] = {
    "migration": MigrationChanged,
    "instance": InstanceChanged,
    "pool": PoolScaled,
    "tenant_class": TenantClassChanged,
    "tenancy": TenancyChanged,
    "loop": LoopChanged,
    "round": RoundPlanned,
    "policy": PolicyChanged,
    "what_if": WhatIfChanged,
    "audit": AuditAdded,
    "alert": AlertChanged,
}
_NAMES = {cls: name for name, cls in TYPES.items()}


def event_type(event: Event) -> str:
    """The name under which an event travels."""
    return _NAMES[type(event)]


def encode(event: Event) -> bytes:
    """One line of JSON: ``{"type": …, …fields}``."""
    return b'{"type":"%s",%s' % (event_type(event).encode(), msgspec.json.encode(event)[1:])


def decode(data: bytes | str) -> Event:
    """Inverse of :func:`encode`. Raises :class:`EventError` on anything else."""
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise EventError(f"an event must be JSON: {error}") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise EventError('an event must be a JSON object with a "type"')
    return _build(fields)


def _build(fields: dict[str, Any]) -> Event:
    name = fields.pop("type")
    cls = TYPES.get(name)
    if cls is None:
        raise EventError(f"unknown event type {name!r}; known are {', '.join(sorted(TYPES))}")
    declared = {field.name for field in dataclasses.fields(cls)}
    if undeclared := set(fields) - declared:
        raise EventError(f"event {name!r} has undeclared fields: {', '.join(sorted(undeclared))}")
    try:
        return cls(**fields)
    except TypeError as error:
        raise EventError(f"event {name!r}: {error}") from error
