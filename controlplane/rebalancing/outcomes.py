"""The Redis stream ``migrations``: what source agents report of their migrations, in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from controlplane import redis_client
from engine_agents.messages import MigrationOutcome

STREAM = "migrations"
BATCH = 500
START = "0-0"

_decoder = msgspec.msgpack.Decoder(MigrationOutcome)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutcomeBatch:
    """Outcomes after a cursor, and the cursor after them."""

    outcomes: tuple[MigrationOutcome, ...]
    cursor: str


def start_after(client: Any, cursor: str) -> str:
    """The cursor, or the stream's beginning where the stream is younger than the cursor.

    A Redis that lost its data, or whose clock was set back, numbers entries below what was
    read before; outcomes may be applied twice, but must not be skipped. Raises ``RedisError``.
    """
    newest = client.xrevrange(redis_client.key(STREAM), count=1)
    if newest and _number(newest[0][0].decode()) < _number(cursor):
        logger.warning("the stream %s began anew: it is read from its beginning", STREAM)
        return START
    return cursor


def _number(entry_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split("-"))


def read_in(pipeline: Any, *, cursor: str) -> None:
    """Queue the read of the next batch in a pipeline."""
    pipeline.xread({redis_client.key(STREAM): cursor}, count=BATCH)


def parse(answer: Any, *, cursor: str) -> OutcomeBatch:
    """The batch in an answer to :func:`read_in`; entries that are no outcomes are logged and skipped."""
    entries = _entries(answer)
    outcomes = tuple(each for each in (_decode(fields) for _, fields in entries) if each is not None)
    return OutcomeBatch(outcomes, entries[-1][0].decode() if entries else cursor)


def _entries(answer: Any) -> Sequence[tuple[bytes, dict[bytes, bytes]]]:
    if not answer:
        return ()
    if isinstance(answer, dict):
        (entries,) = answer.values()
        return entries[0] if entries and isinstance(entries[0], list) else entries
    return answer[0][1]  # type: ignore[no-any-return]


def _decode(fields: dict[bytes, bytes]) -> MigrationOutcome | None:
    """The one field of an entry, whatever its name."""
    for payload in fields.values():
        try:
            return _decoder.decode(payload)
        except msgspec.DecodeError as error:
            logger.warning("an entry of the stream %s is no outcome: %s", STREAM, error)
    return None
