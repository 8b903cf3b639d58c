"""Lines of the event feed: what happened, in the words of the design. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controlplane.events import schema

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """``kind`` picks the mark: moving, good, stopped, risk, hurt, note."""

    kind: str
    text: str
    link: str = ""


def migration_line(before: Json | None, after: Json) -> Line | None:
    """A line for the start and for the end of a move; nothing for its stages."""
    path = f"{after['source']} → {after['destination']}"
    link = f"/migrations/{after['id']}"
    if after["ended_at"] is None:
        if before is not None:
            return None
        size = f", {after['tokens_at_start']:,} tokens" if after["tokens_at_start"] else ""
        return Line("moving", f"{short(after['request_id'])} moves {path}{size}", link)
    if before is not None and before["ended_at"] is not None:
        return None
    if after["state"] == "done":
        downtime = after["downtime_ms"]
        paused = f", {downtime:.0f} ms downtime" if downtime is not None else ""
        return Line("good", f"{short(after['request_id'])} moved {path}{paused}", link)
    return Line("stopped", f"{short(after['request_id'])} {path} stopped: {stop_words(after)}", link)


REASONS = (
    ("finish", "the request finished first"),
    ("gone", "the request finished first"),
    ("not here", "the request finished first"),
    ("preempt", "it was preempted at the source"),
    ("no_room", "no memory at the destination"),
    ("room", "no memory at the destination"),
    ("caught up", "the copy did not catch up"),
    ("gateway", "its gateway ended the move"),
    ("link", "the engines lost each other"),
    ("slot", "no free migration slot at the destination"),
    ("drain", "the destination is draining"),
    ("timeout", "no answer in time"),
    ("timed out", "no answer in time"),
    ("copying failed", "the engines lost each other"),
    ("incompatible", "the engines do not match"),
)


def stop_words(migration: Json) -> str:
    """Why a move stopped, for people; the agent's own words where none fits."""
    reason = str(migration["reason"]).lower()
    for mark, words in REASONS:
        if mark in reason:
            return words
    return str(migration["reason"]) or "no reason given"


def instance_line(before: Json | None, after: Json) -> Line | None:
    """A line when an agent's own state or its preemptions changed."""
    if before is None or before.get("state") is None:
        return None
    link = f"/instances/{after['id']}"
    if before["incarnation"] != after["incarnation"]:
        return Line("note", f"{after['id']} came back as a new engine process", link)
    if before["state"] != after["state"]:
        kind = "good" if after["state"] == "ready" else "note"
        return Line(kind, f"{after['id']} is {after['state']}, was {before['state']}", link)
    more = after["preemptions_total"] - before["preemptions_total"]
    if more > 0:
        requests = "1 request" if more == 1 else f"{more} requests"
        return Line("risk", f"{after['id']} preempted {requests}", link)
    return None


def silence_line(instance_id: str, age_s: float) -> Line:
    return Line("stopped", f"{instance_id} has not reported for {age_s:.0f} s", f"/instances/{instance_id}")


def event_line(event: schema.Event) -> Line | None:
    """A line for an event of the control plane; ``None`` for what another source shows better."""
    match event:
        case schema.InstanceChanged():
            return _instance_changed(event)
        case schema.TenantClassChanged():
            return Line(
                "note",
                f"{event.tenant} is {event.slo_class} now, was {event.previous}; by {event.actor}",
                "/tenants",
            )
        case schema.LoopChanged():
            if not event.leader:
                return Line("risk", "Nobody leads the rebalancing loop")
            return Line("note", f"The rebalancing loop is led by {event.leader}, epoch {event.lease_epoch}")
        case schema.MigrationChanged(state="refused"):
            return Line(
                "stopped",
                f"Move {event.source_id} → {event.destination_id} not taken: {event.reason or 'no reason'}",
                f"/migrations/{event.migration_id}",
            )
    return None


def _instance_changed(event: schema.InstanceChanged) -> Line:
    kinds = {"ready": "good", "draining": "moving", "unhealthy": "hurt", "quarantined": "hurt"}
    why = f": {event.reason}" if event.reason else ""
    by = "" if event.actor.startswith("system") else f" by {event.actor}"
    return Line(
        kinds.get(event.state, "note"),
        f"{event.instance_id} {event.state}{by}{why}",
        f"/instances/{event.instance_id}",
    )


def redis_line(error: str) -> Line:
    if error:
        return Line("risk", f"Redis does not answer ({error}); live status is on hold")
    return Line("good", "Redis answers again")


def short(request_id: str) -> str:
    """``cmpl-3f9a…`` cut to what tells requests apart on a screen."""
    return request_id if len(request_id) <= 14 else f"{request_id[:13]}…"
