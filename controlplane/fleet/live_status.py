"""What agents and gateways report to Redis, with the age of each report by the reader's own clock.

A report is as old as the time since this reader first saw its ``seq``; clocks
of other machines do not enter. Only a report seen for the first time is dated
by its own wall clock, so that a dead agent's last words are not taken for news.
An instance that vanishes from Redis keeps its last report, which grows old:
absent is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

import msgspec

from controlplane import redis_client
from controlplane.fleet.endpoints import endpoint_problem
from controlplane.scheduling.snapshot import (
    ClassRule,
    ClassUse,
    ClusterSnapshot,
    InstanceSnapshot,
    RequestProfile,
)
from engine_agents.messages import GatewayStatus, InstanceStatus

STATUS_HASH = "status"
GATEWAYS_HASH = "gateways"
HOLES_KEY = "holes"
"""Pool -> instance -> the request it is kept free for; written by the loop, obeyed by gateways."""
FORGET_AFTER_S = 600.0
MAX_EPOCH = 2**53
"""No fleet gets there by changing its leader; an epoch from a report becomes that of a row."""

_instance_decoder = msgspec.msgpack.Decoder(InstanceStatus)
_gateway_decoder = msgspec.msgpack.Decoder(GatewayStatus)


class UnfitReportError(ValueError):
    """A report that no agent of ours would write."""


class SeenStatus(NamedTuple):
    """A report and how long ago it was news to this reader."""

    status: InstanceStatus
    age_s: float


@dataclass(slots=True)
class _Sighting:
    status: InstanceStatus
    news_at_s: float
    listed_at_s: float
    """Last found in Redis, news or not."""
    payload: bytes
    """As last found: what did not change need not be decoded."""


class StatusReader:
    """Keeps the last report of every instance and when it was news. One per process that looks."""

    def __init__(self) -> None:
        self._sightings: dict[bytes, _Sighting] = {}
        self.undecodable: tuple[str, ...] = ()
        """Instances whose last report was not a status, or unfit: shown as a fault, not as zeros."""

    def read(self, *, now_s: float, wall_s: float, timeout_s: float | None = None) -> list[SeenStatus]:
        """Fetch all reports in one round trip. Raises ``RedisError`` when Redis does not answer."""
        with redis_client.connect(timeout_s=timeout_s) as client:
            raw = cast(dict[bytes, bytes], client.hgetall(redis_client.key(STATUS_HASH)))
        return self.absorb(raw, now_s=now_s, wall_s=wall_s)

    def absorb(self, raw: Mapping[bytes, bytes], *, now_s: float, wall_s: float) -> list[SeenStatus]:
        """Take over a fetched hash; ``now_s`` is monotonic, ``wall_s`` dates first sightings."""
        broken = []
        for field, payload in raw.items():
            known = self._sightings.get(field)
            if known is None or known.payload != payload:
                try:
                    known = self._sight(field, payload, known, now_s=now_s, wall_s=wall_s)
                except (msgspec.DecodeError, UnfitReportError):
                    broken.append(field.decode(errors="replace"))
            if known is not None:
                known.listed_at_s = now_s
        self.undecodable = tuple(broken)
        self._forget(now_s)
        return self.seen(now_s)

    def hear(self, payload: bytes, *, now_s: float, wall_s: float) -> list[SeenStatus]:
        """Take over one report as published: it says itself whose it is."""
        try:
            field = _instance_decoder.decode(payload).instance_id.encode()
        except msgspec.DecodeError:
            field = b"published"
        return self.absorb({field: payload}, now_s=now_s, wall_s=wall_s)

    def seen(self, now_s: float) -> list[SeenStatus]:
        """What is known without asking again, by instance id."""
        return [
            SeenStatus(sighting.status, max(0.0, now_s - sighting.news_at_s))
            for _, sighting in sorted(self._sightings.items())
        ]

    def _sight(
        self, field: bytes, payload: bytes, known: _Sighting | None, *, now_s: float, wall_s: float
    ) -> _Sighting:
        status = _instance_decoder.decode(payload)
        check_report(status)
        if known is None:
            age_s = max(0.0, wall_s - status.reported_at_s)
            known = self._sightings[field] = _Sighting(status, now_s - age_s, now_s, payload)
        elif _is_news(status, known.status):
            known.status, known.news_at_s, known.payload = status, now_s, payload
        return known

    def _forget(self, now_s: float) -> None:
        limit_s = now_s - FORGET_AFTER_S
        gone = [name for name, each in self._sightings.items() if each.listed_at_s < limit_s]
        for name in gone:
            del self._sightings[name]


def check_report(status: InstanceStatus) -> None:
    """Raises :class:`UnfitReportError` for what would lead a reader astray."""
    for endpoint in (status.data_endpoint, status.peer_endpoint):
        if problem := endpoint_problem(endpoint):
            raise UnfitReportError(f"{status.instance_id}: its endpoint {problem}")
    if not 0 <= status.lease_epoch <= MAX_EPOCH:
        raise UnfitReportError(f"{status.instance_id}: its lease epoch cannot be")


def _is_news(status: InstanceStatus, known: InstanceStatus) -> bool:
    return status.incarnation != known.incarnation or status.seq > known.seq


def read_statuses(wall_s: float) -> list[SeenStatus]:
    """One look for commands and tests: ages by the agents' own wall clocks."""
    return StatusReader().read(now_s=wall_s, wall_s=wall_s)


def read_fleet(wall_s: float) -> tuple[list[SeenStatus], list[GatewayStatus]]:
    """Both in one round trip, for one look. Raises ``RedisError``."""
    with redis_client.connect() as client:
        pipeline = client.pipeline(transaction=False)
        pipeline.hgetall(redis_client.key(STATUS_HASH))
        pipeline.hgetall(redis_client.key(GATEWAYS_HASH))
        statuses, gateways = pipeline.execute()
    return StatusReader().absorb(statuses, now_s=wall_s, wall_s=wall_s), decode_gateways(gateways)


def read_gateways() -> list[GatewayStatus]:
    """The gateways' last reports; ones that cannot be decoded are left out."""
    with redis_client.connect() as client:
        raw = cast(dict[bytes, bytes], client.hgetall(redis_client.key(GATEWAYS_HASH)))
    return decode_gateways(raw)


def decode_gateways(raw: Mapping[bytes, bytes]) -> list[GatewayStatus]:
    found = []
    for payload in raw.values():
        try:
            found.append(_gateway_decoder.decode(payload))
        except msgspec.DecodeError:
            continue
    return sorted(found, key=lambda status: status.gateway_id)


def forget_instance(instance_id: str) -> None:
    """Remove a stopped instance's last report."""
    with redis_client.connect() as client:
        client.hdel(redis_client.key(STATUS_HASH), instance_id)


def to_cluster_snapshot(
    seen: Iterable[SeenStatus],
    *,
    pool: str,
    classes: Mapping[str, ClassRule],
    taken_at_s: float,
    draining: frozenset[str] = frozenset(),
    starting: int = 0,
    waiters: tuple[RequestProfile, ...] = (),
    queue_tokens: int = 0,
) -> ClusterSnapshot:
    """What the policy may see of one pool: its ready instances, counted in tokens.

    ``draining`` names instances that are wished drained, whether or not their agents know yet;
    ``starting`` counts those on their way up; ``waiters`` and ``queue_tokens`` are of its gateways.
    """
    instances = tuple(
        _instance_snapshot(item, wished_drained=item.status.instance_id in draining)
        for item in seen
        if item.status.pool == pool and item.status.state == "ready"
    )
    return ClusterSnapshot(
        taken_at_s=taken_at_s,
        instances=instances,
        classes=dict(classes),
        waiters=waiters,
        queue_tokens=queue_tokens,
        starting=starting,
    )


def _instance_snapshot(item: SeenStatus, *, wished_drained: bool) -> InstanceSnapshot:
    status = item.status
    block = status.block_size_tokens
    accepting = status.accepting and not wished_drained
    return InstanceSnapshot(
        instance_id=status.instance_id,
        capacity_tokens=status.total_blocks * block,
        used_tokens=status.used_blocks * block,
        reserved_tokens=status.reserved_blocks * block,
        running=status.running,
        waiting=status.waiting,
        head_of_line_tokens=status.head_of_line_blocks * block,
        queued_tokens=status.queued_blocks * block,
        classes=tuple(
            [
                ClassUse(load.slo_class, load.running, load.waiting, load.used_blocks * block)
                for load in status.per_class
            ]
        ),
        unprefilled_tokens=status.unprefilled_tokens,
        preempted=status.preempted_waiting,
        block_size_tokens=block,
        draining=not accepting,
        accepting=accepting,
        age_s=item.age_s,
        migrations_in=status.migrations_in,
        migrations_out=status.migrations_out,
        migration_slots=status.migration_slots,
        served_model=status.served_model,
    )
