"""Per-request detail, only while somebody looks: people name an instance, the loop's worker fetches.

A look lasts a few seconds and is renewed by looking again; nobody looking costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from controlplane import redis_client
from engine_agents.messages import RequestInfo

WATCHED_SET = "watched"
REQUESTS_KEY = "requests:"
LOOK_S = 5.0
DETAIL_TTL_S = 5

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[RequestInfo])


def look_at(instance_ids: Sequence[str], *, wall_s: float) -> dict[str, list[RequestInfo] | None]:
    """Ask for the requests on these instances and return what is known by now.

    ``None``: not fetched yet (ask again in a second), not "no requests". Raises ``RedisError``.
    """
    if not instance_ids:
        return {}
    pipeline = redis_client.shared(timeout_s=1.0).pipeline(transaction=False)
    look_in(pipeline, instance_ids, wall_s=wall_s)
    known = found(instance_ids, pipeline.execute()[1])
    return {name: known.get(name) for name in instance_ids}


def look_in(pipeline: Any, instance_ids: Sequence[str], *, wall_s: float) -> None:
    """Queue a look at these instances; the last answer is for :func:`found`."""
    pipeline.zadd(redis_client.key(WATCHED_SET), dict.fromkeys(instance_ids, wall_s + LOOK_S))
    pipeline.mget([redis_client.key(f"{REQUESTS_KEY}{name}") for name in instance_ids])


def found(instance_ids: Sequence[str], answer: Sequence[bytes | None]) -> dict[str, list[RequestInfo]]:
    """The requests of those instances whose detail is there."""
    pairs = zip(instance_ids, answer, strict=True)
    return {name: _decoder.decode(raw) for name, raw in pairs if raw}


def read_watched_in(pipeline: Any, *, wall_s: float) -> None:
    """Queue the question who is looked at now; answered by names (bytes)."""
    pipeline.zrangebyscore(redis_client.key(WATCHED_SET), wall_s, "+inf")


def show_in(pipeline: Any, requests: Mapping[str, list[RequestInfo]], *, wall_s: float) -> None:
    """Queue the detail for those who look, and forget looks that ended."""
    for name, infos in requests.items():
        payload = _encoder.encode(infos)
        pipeline.set(redis_client.key(f"{REQUESTS_KEY}{name}"), payload, ex=DETAIL_TTL_S)
    pipeline.zremrangebyscore(redis_client.key(WATCHED_SET), "-inf", wall_s - LOOK_S)


def names(answer: Any) -> list[str]:
    """The instances in an answer to :func:`read_watched_in`."""
    return [each.decode() for each in cast(list[bytes], answer)]
