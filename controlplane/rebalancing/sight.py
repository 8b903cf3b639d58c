"""What one look at Redis shows the loop: reports, gateways, outcomes, and who is looked at by people."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from controlplane import redis_client
from controlplane.fleet import watching
from controlplane.fleet.live_status import (
    GATEWAYS_HASH,
    STATUS_HASH,
    SeenStatus,
    StatusReader,
    decode_gateways,
)
from controlplane.rebalancing import outcomes
from controlplane.rebalancing.degradations import Degradations
from controlplane.rebalancing.outcomes import OutcomeBatch
from engine_agents.messages import GatewayStatus

NAMED = 5
"""Of many that are alike, so many are named."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a tick found."""

    seen: Sequence[SeenStatus]
    gateways: Sequence[GatewayStatus]
    outcomes: OutcomeBatch | None
    watched: Sequence[str] = ()
    """Instances whose requests somebody looks at."""


class Eyes:
    """Remembers when each report was news, and how far outcomes were read."""

    def __init__(self) -> None:
        self.reader = StatusReader()
        self.cursor: str | None = None

    def first_look(self, client: Any, *, now_s: float, wall_s: float) -> list[SeenStatus]:
        """The reports alone, for who is about to lead. Raises ``RedisError``."""
        raw = cast(dict[bytes, bytes], client.hgetall(redis_client.key(STATUS_HASH)))
        return self.reader.absorb(raw, now_s=now_s, wall_s=wall_s)

    def look_in(self, pipeline: Any, *, wall_s: float, take_outcomes: bool) -> None:
        """Queue all questions of a tick in a pipeline."""
        pipeline.hgetall(redis_client.key(STATUS_HASH))
        pipeline.hgetall(redis_client.key(GATEWAYS_HASH))
        watching.read_watched_in(pipeline, wall_s=wall_s)
        if take_outcomes and self.cursor is not None:
            outcomes.read_in(pipeline, cursor=self.cursor)

    def see(self, answers: Sequence[Any], *, now_s: float, wall_s: float) -> Sight:
        """The answers to :meth:`look_in`."""
        raw, gateways, watched, *stream = answers
        return Sight(
            seen=self.reader.absorb(raw, now_s=now_s, wall_s=wall_s),
            gateways=decode_gateways(gateways),
            outcomes=self._take(stream[0]) if stream else None,
            watched=watching.names(watched),
        )

    def _take(self, answer: Any) -> OutcomeBatch:
        batch = outcomes.parse(answer, cursor=cast(str, self.cursor))
        self.cursor = batch.cursor
        return batch


def of_registered(
    sight: Sight, known: Container[str], degraded: Degradations, *, stale_s: float, wall_s: float
) -> Sight:
    """Without the reports of whom no row knows: nobody is sent there and nothing is believed."""
    strangers = [item for item in sight.seen if item.status.instance_id not in known]
    fresh = [item.status.instance_id for item in strangers if item.age_s <= stale_s]
    _tell("strangers", f"{len(fresh)} report", fresh, degraded, wall_s)
    if not strangers:
        return sight
    return replace(sight, seen=[item for item in sight.seen if item.status.instance_id in known])


def tell_unreadable(names: Sequence[str], degraded: Degradations, *, wall_s: float) -> None:
    """Who wrote what no agent of ours would write: its last good report grows old."""
    _tell("reports", f"{len(names)} cannot be read", names, degraded, wall_s)


def _tell(part: str, what: str, names: Sequence[str], degraded: Degradations, wall_s: float) -> None:
    if names:
        listed = ", ".join(name[:63] for name in names[:NAMED])
        degraded.failed(part, f"{what}: {listed}", wall_s=wall_s)
    else:
        degraded.works(part)
