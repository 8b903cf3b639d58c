"""Turns what the hub reads into the live state and the lines of its feed. Pure: times are given."""

from __future__ import annotations

from typing import Any

from console.dashboard import feed, shapes
from console.dashboard.directory import Directory
from console.dashboard.history import History
from console.dashboard.source import Reading
from console.dashboard.state import LiveState
from controlplane.fleet.live_status import StatusReader, decode_gateways
from controlplane.scheduling.snapshot import ClassRule
from engine_agents.messages import GatewayStatus, InstanceStatus, MigrationOutcome

Json = dict[str, Any]

STALE_S = 10.0
GATEWAY_FORGOTTEN_S = 60.0
MIGRATION_SILENT_S = 60.0
"""A move without news for so long is no longer shown as running."""
OLD_NEWS_S = 15 * 60.0
"""Outcomes older than this at their first reading fill the list, not the feed."""


class Watcher:
    """Owns the live state of one process; the hub feeds it and reads it."""

    def __init__(self, state: LiveState | None = None) -> None:
        self.state = state or LiveState()
        self.history = History()
        self._reader = StatusReader()
        self._directory: Directory | None = None
        self._rules: dict[str, ClassRule] = {}
        self._shown: dict[str, InstanceStatus] = {}
        self._silent: set[str] = set()
        self._gateways: dict[str, tuple[GatewayStatus, float]] = {}
        self._redis_error = ""
        self._outcomes_seen = False
        """The stream tells moves better than rows do, so rows only fill in what it no longer holds."""
        self.state.set_single("degraded", {})

    def take_directory(self, directory: Directory, *, now: float) -> None:
        """Rows were read: add and remove instances, classes and tenants."""
        before, self._directory = self._directory, directory
        rules = {row.name: row.rule() for row in directory.classes}
        known = before.instances if before and rules == self._rules else {}
        self._rules = rules
        self.state.set_single("tenants", directory.tenants)
        self.state.set_single("firing", directory.firing)
        for migration in directory.migrations if self._outcomes_seen else ():
            if self.state.get("migrations", migration["id"]) is None:
                self.state.put_migration(migration)
        for name, row in directory.instances.items():
            if known.get(name) != row:
                self._show_instance(name, self._shown.get(name))
        self._drop_stopped(directory)
        self._show_classes(now)

    def take_reading(self, reading: Reading, *, now: float) -> None:
        """Redis answered."""
        self._redis_found(now)
        for seen in self._reader.absorb(reading.statuses, now_s=now, wall_s=now):
            self._take_status(seen.status, heard_at=now - seen.age_s, now=now)
        self._take_gateways(reading.gateways, now)
        self.state.set_single("loop", None if reading.loop is None else shapes.loop_shape(reading.loop))
        for outcome in reading.outcomes:
            self._take_outcome(outcome, now)
        self._outcomes_seen = True
        for event in reading.events:
            self._add_line(feed.event_line(event), at=event.at_s)
            self.state.add_news(event.to_dict())
        for name, requests in reading.detail.items():
            self.state.put("residents", shapes.resident_shape(name, requests, heard_at=round(now, 2)))
        self.pass_time(now=now)

    def instance_ids(self) -> list[str]:
        return list(self.state.collections["instances"].items)

    def forget_detail(self) -> None:
        """Nobody looks at requests any more: the next who does must not see old ones."""
        if known := list(self.state.collections["residents"].items):
            self.state.drop("residents", known)

    def redis_lost(self, error: str, *, attempts: int, next_try_at: float, now: float) -> None:
        """Redis did not answer; what is shown stays, and grows old."""
        known = self.state.singles["degraded"].get("redis")
        since = known["since"] if known else now
        self._outcomes_seen = True
        if not self._redis_error:
            self._add_line(feed.redis_line(error), at=now)
        self._redis_error = error
        away = {"since": since, "error": error, "attempts": attempts, "next_try_at": next_try_at}
        self._degrade("redis", {**away, "gateways": known["gateways"] if known else None})
        self.pass_time(now=now)

    def take_gateway_reports(self, reports: list[GatewayStatus], *, asked: int, now: float) -> None:
        """What gateways said when asked themselves, because Redis is away."""
        for status in reports:
            self._gateways[status.gateway_id] = (status, now)
            self.state.put("gateways", shapes.gateway_shape(status, heard_at=round(now, 2)))
        known = self.state.singles["degraded"].get("redis")
        if known:
            answers = {"asked": asked, "answered": len(reports), "at": round(now, 1)}
            self._degrade("redis", {**known, "gateways": answers})
        if reports:
            self._show_classes(now)
            self._show_queue(now)

    def database_answered(self, error: str, *, now: float) -> None:
        """``error`` is empty when the database answered."""
        if not error:
            self._degrade("database", None)
            return
        known = self.state.singles["degraded"].get("database")
        self._degrade("database", {"since": known["since"] if known else now, "error": error})

    def pass_time(self, *, now: float) -> None:
        """What follows from the time alone: silence, forgotten gateways and moves, samples."""
        self._note_silence(now)
        self._forget_silent_moves(now)
        instances = list(self.state.collections["instances"].items.values())
        classes = list(self.state.collections["classes"].items.values())
        self.history.sample(now=now, instances=instances, classes=classes, stale_s=STALE_S)

    # ------------------------------------------------------------ instances

    def _take_status(self, status: InstanceStatus, *, heard_at: float, now: float) -> None:
        instance_id = status.instance_id
        if self._directory and instance_id in self._directory.stopped:
            return
        known = self._shown.get(instance_id)
        if known is status:
            return
        self._shown[instance_id] = status
        before = self.state.get("instances", instance_id)
        self._show_instance(instance_id, status, heard_at=round(heard_at, 2))
        after = self.state.get("instances", instance_id)
        if after is not None and known is not None:
            self._add_line(feed.instance_line(before, after), at=now)

    def _show_instance(
        self, instance_id: str, status: InstanceStatus | None, *, heard_at: float | None = None
    ) -> None:
        known = self.state.get("instances", instance_id)
        row = self._directory.instances.get(instance_id) if self._directory else None
        if heard_at is None and known is not None:
            heard_at = known["heard_at"]
        self.state.put(
            "instances",
            shapes.instance_shape(instance_id, row=row, status=status, rules=self._rules, heard_at=heard_at),
        )

    def _drop_stopped(self, directory: Directory) -> None:
        shown = self.state.collections["instances"].items
        gone = [
            name
            for name in shown
            if name in directory.stopped or (name not in directory.instances and name not in self._shown)
        ]
        for name in gone:
            self._shown.pop(name, None)
            self._silent.discard(name)
            self.history.forget("instance", name)
        if gone:
            self.state.drop("instances", gone)
            self.state.drop("residents", gone)

    def _note_silence(self, now: float) -> None:
        for name, instance in self.state.collections["instances"].items.items():
            heard_at = instance["heard_at"]
            silent = heard_at is not None and now - heard_at > STALE_S
            if silent and name not in self._silent:
                self._silent.add(name)
                if not self._redis_error:
                    self._add_line(feed.silence_line(name, now - heard_at), at=now)
            elif not silent:
                self._silent.discard(name)

    # ------------------------------------------------------------ gateways and classes

    def _take_gateways(self, raw: dict[bytes, bytes], now: float) -> None:
        news = False
        for status in decode_gateways(raw):
            known = self._gateways.get(status.gateway_id)
            if known and known[0] == status:
                continue
            heard_at = now if known else now - max(0.0, now - status.reported_at_s)
            if now - heard_at > GATEWAY_FORGOTTEN_S:
                continue
            self._gateways[status.gateway_id] = (status, heard_at)
            self.state.put("gateways", shapes.gateway_shape(status, heard_at=round(heard_at, 2)))
            news = True
        news |= self._forget_gateways(now)
        if news:
            self._show_classes(now)
            self._show_queue(now)

    def _forget_gateways(self, now: float) -> bool:
        silent = [name for name, (_, at) in self._gateways.items() if now - at > GATEWAY_FORGOTTEN_S]
        for name in silent:
            del self._gateways[name]
        if silent:
            self.state.drop("gateways", silent)
        return bool(silent)

    def _show_classes(self, now: float) -> None:
        rows = self._directory.classes if self._directory else []
        fresh = [status for status, at in self._gateways.values() if now - at < STALE_S]
        latencies = [latency for status in fresh for latency in status.per_class]
        for row in rows:
            self.state.put("classes", shapes.class_shape(row, latencies))
        known = {row.name for row in rows}
        gone = [name for name in self.state.collections["classes"].items if name not in known]
        if gone:
            self.state.drop("classes", gone)

    def _show_queue(self, now: float) -> None:
        """Those who wait in front of the fleet: next ones first, of each gateway in its own order."""
        fresh = [(status, at) for status, at in self._gateways.values() if now - at < STALE_S]
        waiting = [
            shapes.waiter_shape(waiter, status, heard_at=at)
            for status, at in fresh
            for waiter in status.waiters
        ]
        waiting.sort(key=lambda each: (each["position"], each["since"], each["request_id"]))
        self.state.set_single("queue", waiting)

    # ------------------------------------------------------------ migrations

    def _take_outcome(self, outcome: MigrationOutcome, now: float) -> None:
        before = self.state.get("migrations", outcome.migration_id)
        if before is not None and before["ended_at"] is not None:
            return
        started_at = before["started_at"] if before else outcome.at_s
        after = shapes.migration_shape(
            outcome, started_at=started_at, actor=before["actor"] if before else ""
        )
        if now - outcome.at_s < OLD_NEWS_S:
            self._add_line(feed.migration_line(before, after), at=outcome.at_s)
        self.state.put_migration(after)

    def _forget_silent_moves(self, now: float) -> None:
        silent = [
            name
            for name, item in self.state.collections["migrations"].items.items()
            if item["ended_at"] is None and now - item["updated_at"] > MIGRATION_SILENT_S
        ]
        if silent:
            self.state.drop("migrations", silent)

    # ------------------------------------------------------------ degraded

    def _redis_found(self, now: float) -> None:
        if self._redis_error:
            self._redis_error = ""
            self._add_line(feed.redis_line(""), at=now)
        self._degrade("redis", None)

    def _degrade(self, what: str, problem: Json | None) -> None:
        degraded = {**self.state.singles["degraded"], what: problem}
        self.state.set_single(
            "degraded", {name: value for name, value in degraded.items() if value is not None}
        )

    def _add_line(self, line: feed.Line | None, *, at: float) -> None:
        if line is not None:
            self.state.add_event(at=round(at, 2), kind=line.kind, text=line.text, link=line.link)
