"""Reports and rows for tests of the control plane; production types, plain defaults."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import redis

from controlplane.fleet.models import Instance, Pool
from engine_agents.messages import InstanceStatus, MigrationOutcome, encode

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BLOCK = 16


def status(instance_id: str = "chat-1", **changes: Any) -> InstanceStatus:
    """A ready, idle instance of 800 blocks that has just reported at :data:`NOW`."""
    fields: dict[str, Any] = {
        "instance_id": instance_id,
        "pool": "chat",
        "incarnation": f"{instance_id}-a",
        "seq": 1,
        "reported_at_s": NOW.timestamp(),
        "state": "ready",
        "accepting": True,
        "engine": "paced",
        "engine_version": "test",
        "served_model": "tiny",
        "data_endpoint": "tcp://127.0.0.1:1",
        "peer_endpoint": f"tcp://{instance_id}:5556",
        "block_size_tokens": BLOCK,
        "total_blocks": 800,
        "used_blocks": 0,
        "reserved_blocks": 0,
        "running": 0,
        "waiting": 0,
        "per_class": [],
        "head_of_line_blocks": 0,
        "queued_blocks": 0,
        "unprefilled_tokens": 0,
        "preempted_waiting": 0,
        "preemptions_total": 0,
        "step_ms": 10.0,
        "tokens_per_s": 0.0,
        "migrations_in": 0,
        "migrations_out": 0,
        "migration_slots": 2,
        "seen": {},
        "lease_epoch": 0,
    }
    return InstanceStatus(**fields | changes)


def crowded(instance_id: str, **changes: Any) -> InstanceStatus:
    """An instance that any Llumnix rule takes for a source: full, many running, one waiting."""
    load = {"used_blocks": 799, "running": 20, "waiting": 3, "head_of_line_blocks": 50, "queued_blocks": 120}
    return status(instance_id, **load | changes)


def report(client: redis.Redis, *statuses: InstanceStatus) -> None:
    """Write reports where agents do."""
    client.hset("llumdeck:status", mapping={each.instance_id: encode(each) for each in statuses})


def report_outcome(client: redis.Redis, outcome: MigrationOutcome) -> None:
    client.xadd("llumdeck:migrations", {"outcome": encode(outcome)})


def outcome(migration_id: str = "m-1", state: str = "done", **changes: Any) -> MigrationOutcome:
    fields: dict[str, Any] = {
        "migration_id": migration_id,
        "request_id": "r-1",
        "source_instance_id": "chat-1",
        "destination_instance_id": "chat-2",
        "rule": "load",
        "why": "latest",
        "slo_class": "standard",
        "tenant": "demo",
        "state": state,
        "at_s": NOW.timestamp(),
    }
    return MigrationOutcome(**fields | changes)


def pool(name: str = "chat", **changes: Any) -> Pool:
    fields: dict[str, Any] = {"served_model": "tiny", "model_path": "/models/tiny", "engine": "paced"}
    return Pool.objects.create(name=name, **fields | changes)


def instance(instance_id: str = "chat-1", *, of: Pool, **changes: Any) -> Instance:
    fields: dict[str, Any] = {"state": Instance.State.READY, "changed_at": NOW}
    return Instance.objects.create(instance_id=instance_id, pool=of, **fields | changes)
