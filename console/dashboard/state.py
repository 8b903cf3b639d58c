"""The live state of one console process: entities with versions, pure of any IO.

Every change stamps its entity with the next version. ``delta(since)`` holds what
changed after a version, so a client that missed any number of frames gets one
merged delta: the latest value wins, nothing queues up. The invariant, tested on
both sides of the wire: *snapshot + deltas = a fresh snapshot*.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Json = dict[str, Any]

KEPT_FINAL_MIGRATIONS = 50
KEPT_EVENTS = 50
KEPT_TOMBSTONES = 500
COLLECTIONS = ("instances", "gateways", "classes", "migrations", "residents")
SINGLES = ("loop", "degraded", "tenants", "queue", "firing")
TOPIC_OF = {"residents": "requests"}
"""Collections that only subscribers are sent; the others are for everybody."""
LISTS = ("events", "news")
NO_TOPICS: frozenset[str] = frozenset()


class Collection:
    """Entities of one kind by id, each with the version of its last change."""

    def __init__(self, id_field: str) -> None:
        self.id_field = id_field
        self.items: dict[str, Json] = {}
        self.changed: dict[str, int] = {}
        self.born: dict[str, int] = {}
        self.fields: dict[str, dict[str, int]] = {}
        """Per entity, the version at which each of its fields changed since it was born."""
        self.heard: dict[str, int] = {}
        self.gone: dict[str, int] = {}
        self.forgotten = 0
        """Version up to which tombstones were thrown away: older clients need a snapshot."""

    def put(self, entity: Json, version: int) -> bool:
        """Store; False when nothing but ``heard_at`` is new."""
        key = str(entity[self.id_field])
        before = self.items.get(key)
        self.items[key] = entity
        self.gone.pop(key, None)
        if before is None:
            self.born[key] = self.changed[key] = version
            self.fields[key] = {}
            return True
        fresh = [name for name, value in entity.items() if before[name] != value]
        if not fresh:
            return False
        if fresh == ["heard_at"]:
            self.heard[key] = version
            return False
        self.fields[key].update(dict.fromkeys(fresh, version))
        self.changed[key] = version
        return True

    def drop(self, key: str, version: int) -> None:
        if self.items.pop(key, None) is not None:
            for known in (self.changed, self.heard, self.born, self.fields):
                known.pop(key, None)
            self.gone[key] = version
        while len(self.gone) > KEPT_TOMBSTONES:
            oldest = next(iter(self.gone))
            self.forgotten = self.gone.pop(oldest)

    def changed_since(self, version: int) -> list[Json]:
        """New entities whole; of the others the id and the fields that changed."""
        return [self._part(key, version) for key, at in self.changed.items() if at > version]

    def _part(self, key: str, version: int) -> Json:
        item = self.items[key]
        if self.born[key] > version:
            return item
        part = {self.id_field: key}
        if "heard_at" in item:
            part["heard_at"] = item["heard_at"]
        part.update((name, item[name]) for name, at in self.fields[key].items() if at > version)
        return part

    def heard_since(self, version: int) -> dict[str, float]:
        """Those heard of without any other change, with the time."""
        return {
            key: self.items[key]["heard_at"]
            for key, at in self.heard.items()
            if at > version and self.changed.get(key, 0) <= version
        }

    def gone_since(self, version: int) -> list[str]:
        return [key for key, at in self.gone.items() if at > version]


class LiveState:
    """Everything the live page shows."""

    def __init__(self, *, kept_final_migrations: int = KEPT_FINAL_MIGRATIONS) -> None:
        self.version = 0
        self.kept_final_migrations = kept_final_migrations
        self.collections: Mapping[str, Collection] = {
            name: Collection("name" if name == "classes" else "id") for name in COLLECTIONS
        }
        self.singles: dict[str, Any] = {name: [] for name in SINGLES} | {"loop": None, "degraded": {}}
        self.single_changed: dict[str, int] = {}
        self.lists: dict[str, list[Json]] = {name: [] for name in LISTS}
        self._next_event_id = 1

    @property
    def events(self) -> list[Json]:
        return self.lists["events"]

    def put(self, collection: str, entity: Json) -> bool:
        """Store an entity; returns whether more than its ``heard_at`` changed."""
        return self.collections[collection].put(entity, self._tick())

    def get(self, collection: str, key: str) -> Json | None:
        return self.collections[collection].items.get(key)

    def drop(self, collection: str, keys: Iterable[str]) -> None:
        version = self._tick()
        for key in keys:
            self.collections[collection].drop(key, version)

    def set_single(self, name: str, value: Any) -> bool:
        if self.singles[name] == value and name in self.single_changed:
            return False
        self.singles[name] = value
        self.single_changed[name] = self._tick()
        return True

    def put_migration(self, migration: Json) -> None:
        """Store; the oldest finished ones beyond the last ones kept are dropped."""
        self.put("migrations", migration)
        moves = self.collections["migrations"].items.values()
        finished = [item for item in moves if item["ended_at"] is not None]
        if len(finished) > self.kept_final_migrations:
            finished.sort(key=lambda item: (item["ended_at"], item["id"]))
            self.drop("migrations", [item["id"] for item in finished[: -self.kept_final_migrations]])

    def add_event(self, *, at: float, kind: str, text: str, link: str = "") -> None:
        """Append a line to the feed; only the last 50 are kept."""
        self._append("events", {"at": at, "kind": kind, "text": text, "link": link})

    def add_news(self, event: Json) -> None:
        """Append an event of the control plane as it came; only the last 50 are kept."""
        self._append("news", {"event": event})

    def snapshot(self, topics: frozenset[str] = NO_TOPICS) -> Json:
        """The whole state, as a client with these topics starts from it."""
        return {
            **{name: list(kind.items.values()) for name, kind in self._shown(topics)},
            **self.singles,
            **{name: [_public(item) for item in items] for name, items in self.lists.items()},
        }

    def delta(self, since: int, topics: frozenset[str] = NO_TOPICS) -> Json | None:
        """What changed after version ``since`` (empty: nothing); ``None``: too long ago, take a snapshot."""
        shown = self._shown(topics)
        if any(since < kind.forgotten for _, kind in shown):
            return None
        parts: Json = {}
        for name, kind in shown:
            _set_if(parts, name, kind.changed_since(since))
        for name in SINGLES:
            if self.single_changed.get(name, 0) > since:
                parts[name] = self.singles[name]
        for name, items in self.lists.items():
            _set_if(parts, name, [_public(item) for item in items if item["_version"] > since])
        _set_if(parts, "heard", {name: at for name, kind in shown if (at := kind.heard_since(since))})
        _set_if(parts, "gone", {name: ids for name, kind in shown if (ids := kind.gone_since(since))})
        return parts

    def _shown(self, topics: frozenset[str]) -> list[tuple[str, Collection]]:
        return [
            (name, kind)
            for name, kind in self.collections.items()
            if name not in TOPIC_OF or TOPIC_OF[name] in topics
        ]

    def _append(self, name: str, item: Json) -> None:
        made = {"id": self._next_event_id, **item, "_version": self._tick()}
        self.lists[name] = [*self.lists[name], made][-KEPT_EVENTS:]
        self._next_event_id += 1

    def _tick(self) -> int:
        self.version += 1
        return self.version


def _public(event: Json) -> Json:
    return {name: value for name, value in event.items() if name != "_version"}


def _set_if(parts: Json, name: str, value: Any) -> None:
    if value:
        parts[name] = value
