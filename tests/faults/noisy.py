"""Tenants that stream at given rates beside each other, and how long each waits for its first token."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.gateway.harness import MODEL


@dataclass
class Seen:
    """What one tenant saw during one phase."""

    ttft_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)

    @property
    def mean_s(self) -> float:
        return sum(self.ttft_s) / len(self.ttft_s)

    def percentile_s(self, percent: float) -> float:
        ordered = sorted(self.ttft_s)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@dataclass(frozen=True)
class Tenant:
    """An open loop: a request goes out when its time has come, however slow the answers are."""

    key: str
    per_s: float
    max_tokens: int = 4
    extra: tuple[tuple[str, object], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()


async def phase(url: str, tenants: list[Tenant], seconds: float) -> list[Seen]:
    """All tenants at once for so long; returns when every answer is over."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        return list(await asyncio.gather(*(_drive(client, tenant, seconds) for tenant in tenants)))


async def _drive(client: httpx.AsyncClient, tenant: Tenant, seconds: float) -> Seen:
    seen, tasks = Seen(), []
    begun = time.monotonic()
    for number in range(int(seconds * tenant.per_s)):
        await asyncio.sleep(max(0.0, begun + number / tenant.per_s - time.monotonic()))
        tasks.append(asyncio.create_task(_ask(client, tenant, seen, number)))
    await asyncio.gather(*tasks)
    return seen


async def _ask(client: httpx.AsyncClient, tenant: Tenant, seen: Seen, number: int) -> None:
    body = {
        "model": MODEL,
        "prompt": f"Tell me tale {number}",
        "max_tokens": tenant.max_tokens,
        "ignore_eos": True,
        "stream": True,
        **dict(tenant.extra),
    }
    headers = {"Authorization": f"Bearer {tenant.key}", **dict(tenant.headers)}
    begun = time.monotonic()
    async with client.stream("POST", "/v1/completions", json=body, headers=headers) as reply:
        seen.statuses[reply.status_code] += 1
        if reply.status_code != 200:
            seen.limits[reply.headers.get("x-ratelimit-limit-name", "")] += 1
            await reply.aread()
            return
        waits = True
        async for line in reply.aiter_lines():
            if waits and line.startswith("data: "):
                seen.ttft_s.append(time.monotonic() - begun)
                waits = False
