"""What a report means for the row of its instance: pure, the database is not touched."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controlplane.fleet.live_status import SeenStatus
from controlplane.fleet.models import Instance
from engine_agents.messages import InstanceStatus

State = Instance.State

UNREPORTED_STATES = frozenset(
    {State.PENDING, State.STARTING, State.STOPPING, State.STOPPED, State.QUARANTINED}
)
"""Where silence is no news."""
DEAF_STATES = frozenset({State.STOPPING, State.STOPPED, State.QUARANTINED})
"""Where a report changes nothing: last words of an agent that is being stopped."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Ages of a report in seconds."""

    stale_s: float
    """Older: no new work, no state is read from it."""
    dead_s: float
    """Older: the instance counts as dead."""


def follow_report(
    row: Instance, seen: SeenStatus, *, limits: Limits, listening_s: float, now: datetime
) -> bool:
    """Bring the row to what its agent reports; returns whether anything changed.

    Silence counts only while somebody listened: ``listening_s`` is for how long the reader has.
    """
    if seen.age_s > limits.dead_s:
        silent_s = min(seen.age_s, listening_s)
        return follow_silence(row, silent_s=silent_s, limits=limits, now=now)
    if seen.age_s > limits.stale_s or row.state in DEAF_STATES:
        return False
    if row.ended_incarnation and seen.status.incarnation == row.ended_incarnation:
        return False
    identified = _identify(row, seen.status)
    if seen.status.leaving and row.accepting and row.state in Instance.LIVE_STATES:
        row.want_drained(cause="its process was told to end (SIGTERM)", now=now)
        row.when_drained = Instance.WhenDrained.RESTART
        return True
    state, cause = _reported_state(row, seen.status)
    if state == row.state or not row.may_become(state):
        return identified
    row.become(state, cause=cause, now=now)
    return True


def follow_silence(row: Instance, *, silent_s: float, limits: Limits, now: datetime) -> bool:
    """An instance that said nothing for too long is unhealthy; its requests are recovered elsewhere."""
    if silent_s <= limits.dead_s or row.state in UNREPORTED_STATES or row.state == State.UNHEALTHY:
        return False
    row.become(State.UNHEALTHY, cause=f"silent for {silent_s:.0f} s", now=now)
    return True


def _identify(row: Instance, status: InstanceStatus) -> bool:
    facts = (status.incarnation, status.engine_version, status.host, status.pid)
    if facts == (row.incarnation, row.engine_version, row.host, row.pid):
        return False
    row.incarnation, row.engine_version, row.host, row.pid = facts
    return True


def _reported_state(row: Instance, status: InstanceStatus) -> tuple[str, str]:
    if status.state == "ready":
        return _ready_state(row, status)
    if status.state == "stopping":
        # Nobody here told it to. One that cannot start says why elsewhere.
        rising = row.state in Instance.RISING_STATES
        return (row.state, row.cause) if rising else (State.UNHEALTHY, "its agent ended by itself")
    return status.state, f"its agent is {status.state}"


def _ready_state(row: Instance, status: InstanceStatus) -> tuple[str, str]:
    if row.accepting:
        return State.READY, "its agent is ready"
    if row.state not in {State.READY, State.DRAINING, State.DRAINED, State.UNHEALTHY}:
        return State.READY, "its agent is ready"
    if row.state == State.READY:
        return State.DRAINING, "wished drained before it was ready"
    empty = status.running + status.waiting + status.migrations_in + status.migrations_out == 0
    if empty and not status.accepting:
        return State.DRAINED, "nothing runs on it any more"
    return State.DRAINING, row.cause or "wished drained"
