"""Asking the gateways themselves, when Redis cannot be asked: all at once, each with a short limit.

Their addresses are the fleet's own rows, never anything a caller names.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
from django.conf import settings

from controlplane.fleet.models import GatewayProcess
from engine_agents.messages import GatewayStatus

PATH = "/internal/status"
LIMIT_S = 1.0
MAX_ASKED = 32
MAX_ANSWER_BYTES = 4 * 2**20


class EngineHeardOf(msgspec.Struct, kw_only=True):
    """One engine as a gateway sees it; ``None`` is unknown, not zero."""

    instance_id: str
    usable: bool
    age_s: float | None = None
    running: int | None = None
    waiting: int | None = None
    used_blocks: int | None = None
    total_blocks: int | None = None


class GatewayAnswer(msgspec.Struct, kw_only=True):
    """What one gateway said of itself."""

    report: GatewayStatus
    redis_alive: bool
    engines: list[EngineHeardOf]


@dataclass(frozen=True, slots=True)
class AskedGateway:
    """A gateway's answer, or why there is none."""

    gateway_id: str
    url: str
    answer: GatewayAnswer | None
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "gateway_id": self.gateway_id,
            "url": self.url,
            "problem": self.problem,
            "answer": msgspec.to_builtins(self.answer) if self.answer else None,
        }


def ask_gateways(rows: Sequence[GatewayProcess] | None = None) -> list[AskedGateway]:
    """Ask every known gateway. Raises ``DatabaseError`` when their addresses cannot be read."""
    asked = list(GatewayProcess.objects.all()[:MAX_ASKED]) if rows is None else list(rows)[:MAX_ASKED]
    if not asked:
        return []
    limits = httpx.Timeout(LIMIT_S)
    headers = {"authorization": f"Bearer {settings.INTERNAL_TOKEN}"}
    with (
        httpx.Client(timeout=limits, headers=headers, trust_env=False) as client,
        ThreadPoolExecutor(len(asked)) as pool,
    ):
        return list(pool.map(lambda row: _ask(client, row), asked))


def _ask(client: httpx.Client, row: GatewayProcess) -> AskedGateway:
    try:
        response = client.get(row.url + PATH)
        response.raise_for_status()
        answer = msgspec.json.decode(response.content[:MAX_ANSWER_BYTES], type=GatewayAnswer)
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
        return AskedGateway(row.gateway_id, row.url, None, f"does not answer: {type(error).__name__}")
    return AskedGateway(row.gateway_id, row.url, answer)
