"""The JSON shapes of the live protocol, made from what agents, gateways and rows say.

Absent is ``None``, never 0: an instance that never reported has no numbers.
Freeness and headroom are computed here, once, by the policy core, so that every
screen shows the number the scheduler acts on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from controlplane.rebalancing.types import LoopStatus
from controlplane.scheduling.load import freeness, headroom_tokens, rank_of
from controlplane.scheduling.snapshot import ClassRule, ClassUse, InstanceSnapshot
from engine_agents.messages import (
    ClassLatency,
    ClassLoad,
    GatewayStatus,
    InstanceStatus,
    MigrationOutcome,
    RequestInfo,
    Waiter,
)

Json = dict[str, Any]
Rules = Mapping[str, ClassRule]

OBJECTIVE = 0.99
"""Share of requests that must meet a class's targets: a target is a promise on the 99th percentile."""

FINAL_MIGRATION_STATES = frozenset({"done", "aborted", "refused"})


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """What the database knows of an instance."""

    instance_id: str
    pool: str
    state: str
    accepting: bool
    cause: str = ""
    changed_at_s: float | None = None
    engine: str = ""
    served_model: str = ""


@dataclass(frozen=True, slots=True)
class ClassRow:
    """What the database knows of an SLO class."""

    name: str
    rank: int
    ttft_target_ms: int | None
    tpot_target_ms: int | None
    target_load_tokens: int | None

    def rule(self) -> ClassRule:
        return ClassRule(name=self.name, rank=self.rank, target_load_tokens=self.target_load_tokens)


def instance_shape(
    instance_id: str,
    *,
    row: InstanceRow | None,
    status: InstanceStatus | None,
    rules: Rules,
    heard_at: float | None,
) -> Json:
    """One instance: its row, its last report (all ``None`` before the first), when it was heard."""
    shape = {"id": instance_id, "heard_at": heard_at, **_row_part(row, status)}
    shape.update(_no_report() if status is None else _report_part(status, rules))
    return shape


def _row_part(row: InstanceRow | None, status: InstanceStatus | None) -> Json:
    return {
        "pool": row.pool if row else (status.pool if status else ""),
        "row_state": row.state if row else None,
        "wanted_accepting": row.accepting if row else None,
        "cause": row.cause if row else "",
        "changed_at": row.changed_at_s if row else None,
        "served_model": status.served_model if status else (row.served_model if row else ""),
        "engine": status.engine if status else (row.engine if row else ""),
    }


def _report_part(status: InstanceStatus, rules: Rules) -> Json:
    return {
        "state": status.state,
        "accepting": status.accepting,
        "incarnation": status.incarnation,
        "engine_version": status.engine_version,
        "host": status.host,
        "pid": status.pid or None,
        "block_size_tokens": status.block_size_tokens,
        "total_blocks": status.total_blocks,
        "used_blocks": status.used_blocks,
        "reserved_blocks": status.reserved_blocks,
        "running": status.running,
        "waiting": status.waiting,
        "classes": [structs.asdict(load) for load in _by_rank(status.per_class, rules)],
        "head_of_line_blocks": status.head_of_line_blocks,
        "queued_blocks": status.queued_blocks,
        "preempted_waiting": status.preempted_waiting,
        "preemptions_total": status.preemptions_total,
        "step_ms": round(status.step_ms, 1) or None,
        "tokens_per_s": round(status.tokens_per_s, 1),
        "migrations_in": status.migrations_in,
        "migrations_out": status.migrations_out,
        "migration_slots": status.migration_slots,
        "kv_bytes_per_token": status.kv_bytes_per_token or None,
        "lease_epoch": status.lease_epoch,
        **_judged(status, rules),
    }


def _no_report() -> Json:
    absent = (
        "state accepting incarnation engine_version host pid block_size_tokens total_blocks used_blocks "
        "reserved_blocks headroom_blocks running waiting head_of_line_blocks queued_blocks "
        "preempted_waiting preemptions_total step_ms tokens_per_s freeness migrations_in migrations_out "
        "migration_slots kv_bytes_per_token lease_epoch"
    )
    return {**dict.fromkeys(absent.split()), "classes": []}


def _by_rank(loads: Sequence[ClassLoad], rules: Rules) -> list[ClassLoad]:
    """First served first, so that a class keeps its place on every screen."""
    if len(loads) < 2:
        return list(loads)
    return sorted(loads, key=lambda load: (rank_of(load.slo_class, rules), load.slo_class))


def _judged(status: InstanceStatus, rules: Rules) -> Json:
    """What the policy core makes of the report; absent while the engine is not ready."""
    if status.state != "ready":
        return {"freeness": None, "headroom_blocks": None}
    snapshot = _as_judged(status)
    free = status.total_blocks - status.used_blocks - status.reserved_blocks
    held = headroom_tokens(snapshot, rules) // status.block_size_tokens
    return {"freeness": _finite(freeness(snapshot, rules)), "headroom_blocks": max(0, min(held, free))}


def _as_judged(status: InstanceStatus) -> InstanceSnapshot:
    """As :func:`controlplane.fleet.live_status.to_cluster_snapshot` has it, as far as freeness looks at it.

    Every instance is judged in every frame; the rest of a snapshot would be built for nobody.
    """
    block = status.block_size_tokens
    return InstanceSnapshot(
        status.instance_id,
        status.total_blocks * block,
        status.used_blocks * block,
        status.reserved_blocks * block,
        status.running,
        status.waiting,
        status.head_of_line_blocks * block,
        status.queued_blocks * block,
        tuple([ClassUse(load.slo_class, load.running, load.waiting, 0) for load in status.per_class]),
        draining=not status.accepting,
    )


def _finite(value: float) -> float | None:
    """JSON knows no infinity: a draining instance's freeness is minus infinity, shown as absent."""
    return round(value, 1) if abs(value) < 1e12 else None


def loop_shape(status: LoopStatus) -> Json:
    """The rebalancing loop as it last reported itself."""
    return {
        "leader": status.leader,
        "epoch": status.epoch,
        "last_tick_at": round(status.last_tick_at_s, 2),
        "tick_ms": round(status.tick_ms, 1),
        "interval_ms": status.interval_ms,
        "problems": [f"{item.part}: {item.reason}" for item in status.degraded],
    }


def gateway_shape(status: GatewayStatus, *, heard_at: float) -> Json:
    return {
        "id": status.gateway_id,
        "incarnation": status.incarnation,
        "pool": status.pool,
        "url": status.url,
        "open_streams": status.open_streams,
        "queued": status.queued,
        "heard_at": heard_at,
    }


def waiter_shape(waiter: Waiter, status: GatewayStatus, *, heard_at: float) -> Json:
    """One request in a gateway's queue; since when, on this process's clock."""
    return {
        "gateway": status.gateway_id,
        "pool": status.pool,
        "request_id": waiter.request_id,
        "tenant": waiter.tenant,
        "slo_class": waiter.slo_class,
        "prompt_tokens": waiter.prompt_tokens,
        "generated_tokens": waiter.generated_tokens,
        "needed_tokens": waiter.needed_tokens or waiter.prompt_tokens,
        "since": round(heard_at - waiter.waiting_s, 1),
        "position": waiter.position,
        "why": waiter.why,
        "recovering": waiter.recovering,
    }


def resident_shape(instance_id: str, requests: Sequence[RequestInfo], *, heard_at: float) -> Json:
    """The requests on one instance, most blocks first."""
    shown = sorted(requests, key=lambda each: (-each.blocks, each.request_id))
    return {"id": instance_id, "heard_at": heard_at, "requests": [request_shape(each) for each in shown]}


def request_shape(item: RequestInfo) -> Json:
    """One live request; never its text."""
    return {
        "engine_id": item.engine_id,
        "request_id": item.request_id,
        "tenant": item.tenant,
        "slo_class": item.slo_class,
        "state": item.state,
        "prompt_tokens": item.prompt_tokens,
        "output_tokens": item.output_tokens,
        "blocks": item.blocks,
        "arrived_at": round(item.arrived_at_s, 2),
        "migration_id": item.migration_id,
    }


def class_shape(row: ClassRow, latencies: Sequence[ClassLatency]) -> Json:
    """One class over all gateways: percentiles of the worst gateway, shares weighted by requests."""
    mine = [latency for latency in latencies if latency.slo_class == row.name]
    return {
        "name": row.name,
        "rank": row.rank,
        "ttft_target_ms": row.ttft_target_ms,
        "tpot_target_ms": row.tpot_target_ms,
        "target_load_tokens": row.target_load_tokens,
        "objective": OBJECTIVE,
        "requests": sum(latency.requests for latency in mine) if mine else None,
        "open": sum(latency.open for latency in mine) if mine else None,
        "ttft_p50_ms": _worst(latency.ttft_p50_ms for latency in mine),
        "ttft_p99_ms": _worst(latency.ttft_p99_ms for latency in mine),
        "tpot_p50_ms": _worst(latency.tpot_p50_ms for latency in mine),
        "tpot_p99_ms": _worst(latency.tpot_p99_ms for latency in mine),
        "ttft_attained": _weighted((latency.ttft_attained, latency.requests) for latency in mine),
        "tpot_attained": _weighted((latency.tpot_attained, latency.requests) for latency in mine),
    }


def _worst(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(max(known), 1) if known else None


def _weighted(pairs: Iterable[tuple[float | None, int]]) -> float | None:
    known = [(share, weight) for share, weight in pairs if share is not None and weight > 0]
    total = sum(weight for _, weight in known)
    return round(sum(share * weight for share, weight in known) / total, 4) if total else None


def migration_shape(outcome: MigrationOutcome, *, started_at: float, actor: str = "") -> Json:
    """One request's migration as its source last told it."""
    final = outcome.state in FINAL_MIGRATION_STATES
    return {
        "id": outcome.migration_id,
        "request_id": outcome.request_id,
        "source": outcome.source_instance_id,
        "destination": outcome.destination_instance_id,
        "rule": outcome.rule,
        "why": outcome.why,
        "slo_class": outcome.slo_class,
        "tenant": outcome.tenant,
        "state": outcome.state,
        "reason": outcome.reason,
        "stages": [stage_shape(msgspec.to_builtins(stage)) for stage in outcome.stages],
        "downtime_ms": round(outcome.downtime_ms, 1) if outcome.state == "done" else None,
        "tokens_at_start": outcome.tokens_at_start or None,
        "tokens_moved": outcome.tokens_moved or None,
        "started_at": started_at,
        "updated_at": outcome.at_s,
        "ended_at": outcome.at_s if final else None,
        "actor": actor,
    }


def stage_shape(stage: Json) -> Json:
    return {**stage, "duration_ms": round(stage["duration_ms"], 1)}
