"""A hub whose readings are given by hand and whose clock stands still until told; no Redis, no database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from console.dashboard.directory import Directory
from console.dashboard.hub import Client, Hub
from console.dashboard.shapes import ClassRow, InstanceRow
from console.dashboard.source import Reading, RedisSource
from console.dashboard.state import LISTS, SINGLES
from controlplane.redis_client import RedisError
from engine_agents.messages import GatewayStatus, InstanceStatus, MigrationOutcome, encode

START_S = 1_800_000_000.0
KEYS = {"instances": "id", "gateways": "id", "classes": "name", "migrations": "id", "residents": "id"}

CLASSES = [
    ClassRow("interactive", 0, 500, 50, 9_600),
    ClassRow("standard", 1, 2_000, 80, None),
    ClassRow("batch", 2, 60_000, None, None),
]


class SourceByHand(RedisSource):
    def __init__(self) -> None:
        super().__init__()
        self.statuses: dict[bytes, bytes] = {}
        self.gateways: dict[bytes, bytes] = {}
        self.outcomes: list[MigrationOutcome] = []
        self.events: list[Any] = []
        self.detail: dict[str, list[Any]] = {}
        self.loop: Any = None
        self.away = False
        self.closed = 0

    async def read(self, detail_of: Sequence[str] = ()) -> Reading:
        if self.away:
            raise RedisError("away")
        reading = Reading(dict(self.statuses), dict(self.gateways), self.loop, self.outcomes, self.events)
        reading.detail = {name: self.detail[name] for name in detail_of if name in self.detail}
        self.outcomes, self.events = [], []
        return reading

    async def close(self) -> None:
        self.closed += 1


class HubByHand:
    """``report`` what agents say, ``look`` once, and take ``frame`` by frame."""

    def __init__(self, directory: Directory | None = None) -> None:
        self.now = START_S
        self.source = SourceByHand()
        self.directory = directory or directory_of([])
        self.asked: list[Any] = []
        """What gateways answer when asked themselves."""
        self.hub = Hub(
            source=self.source,
            directory=lambda: self.directory,
            ask=lambda: self.asked,
            clock=lambda: self.now,
        )

    @property
    def state(self) -> Any:
        return self.hub.watcher.state

    def report(self, *statuses: InstanceStatus) -> None:
        for status in statuses:
            self.source.statuses[status.instance_id.encode()] = encode(status)

    def report_gateway(self, status: GatewayStatus) -> None:
        self.source.gateways[status.gateway_id.encode()] = encode(status)

    async def look(self, *, after_s: float = 0.25) -> None:
        self.now += after_s
        await self.hub.look()

    def client(self) -> Client:
        client = Client(self.hub)
        self.hub.clients.add(client)
        return client


async def frame(client: Client) -> dict[str, Any]:
    """The next frame; fails when there is none at once."""
    data = await asyncio.wait_for(client.next_frame(), timeout=5)
    client.acknowledge(client.seq)
    return json.loads(data)


def frame_if_any(client: Client) -> dict[str, Any] | None:
    """What the client would be sent now; ``None`` when there is nothing to send yet."""
    data = client._frame_now()
    if data is None:
        return None
    client.acknowledge(client.seq)
    return json.loads(data)


def directory_of(names: list[str], **changes: Any) -> Directory:
    fields: dict[str, Any] = {
        "instances": {name: InstanceRow(name, "main", "ready", True) for name in names},
        "stopped": frozenset(),
        "classes": CLASSES,
        "tenants": ["acme", "globex"],
        "migrations": [],
    }
    return Directory(**fields | changes)


def apply(state: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """A second, plain implementation of the client's reducer, for the invariant on this side."""
    new = dict(state)
    for name, key in KEYS.items():
        if name not in state:
            continue
        items = {item[key]: item for item in state[name]}
        for gone in delta.get("gone", {}).get(name, []):
            items.pop(gone, None)
        for item in delta.get(name, []):
            items[item[key]] = {**items.get(item[key], {}), **item}
        for heard, at in delta.get("heard", {}).get(name, {}).items():
            items[heard] = {**items[heard], "heard_at": at}
        new[name] = list(items.values())
    for name in LISTS:
        new[name] = [*state[name], *delta.get(name, [])][-50:]
    for name in SINGLES:
        if name in delta:
            new[name] = delta[name]
    return new


def in_order(state: dict[str, Any]) -> dict[str, Any]:
    """With collections sorted, since a client keeps them by key."""
    return {
        name: sorted(value, key=lambda item: item[KEYS[name]]) if name in KEYS else value
        for name, value in state.items()
    }
