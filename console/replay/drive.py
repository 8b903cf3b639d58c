"""The open loop: every request is sent when its time comes, however slow the answers are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from console.replay.client import Door, Felt, fire
from console.replay.shots import ReplayError, Shot

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 300.0
"""A stream without a byte for so long has failed."""
MAX_OPEN_STREAMS = 2000


@dataclass(frozen=True, slots=True)
class Model:
    name: str
    context_tokens: int


@dataclass(frozen=True, slots=True)
class Target:
    """Where the replay goes, and how each class gets in."""

    url: str
    model: str
    doors: Mapping[str, Door]
    """By SLO class."""


@dataclass(frozen=True, slots=True)
class Pace:
    seed: int
    """Of the prompts."""
    max_open: int
    """Sending waits while so many are open: a bound for demos. Measurements leave it at all of them."""


async def ask_model(url: str, key: str, name: str = "") -> Model:
    """The served model (the named one, else the first). Raises :class:`ReplayError` with what to do."""
    try:
        async with httpx.AsyncClient(base_url=url, timeout=CONNECT_TIMEOUT_S, trust_env=False) as client:
            response = await client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ReplayError(
            f"no gateway at {url} ({type(error).__name__}): is make up running, is --url right?"
        ) from error
    if response.status_code == 401:
        raise ReplayError(f"the gateway at {url} does not know this key: give a tenant's with --key")
    if response.status_code != 200:
        raise ReplayError(f"the gateway at {url} answers {response.status_code}: {response.text[:200]}")
    served = {model["id"]: model for model in response.json()["data"]}
    chosen = name or next(iter(served), "")
    if chosen not in served:
        raise ReplayError(
            f"--model {chosen!r} is not served at {url}; there is {', '.join(served) or 'none'}"
        )
    return Model(chosen, int(served[chosen].get("max_model_len") or 4096))


async def drive(
    shots: Sequence[Shot],
    target: Target,
    pace: Pace,
    *,
    on_sent: Callable[[], None],
    on_done: Callable[[Felt], None],
    stop: asyncio.Event | None = None,
) -> list[Felt]:
    """Send all shots on time and wait for all answers; ``stop`` sends no more and waits for the open ones."""
    stop = stop or asyncio.Event()
    timeout = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    limits = httpx.Limits(max_connections=MAX_OPEN_STREAMS, max_keepalive_connections=100)
    room = asyncio.Semaphore(pace.max_open)
    felt: list[Felt] = []

    async def one(shot: Shot) -> None:
        door = target.doors[shot.slo_class]
        result = await fire(client, shot, model=target.model, door=door, seed=pace.seed, clock=time.monotonic)
        room.release()
        felt.append(result)
        on_done(result)

    async with (
        httpx.AsyncClient(base_url=target.url, timeout=timeout, limits=limits, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        start_s = time.monotonic()
        for shot in shots:
            if await _stopped_before(stop, start_s + shot.at_s):
                break
            await room.acquire()
            on_sent()
            group.create_task(one(shot))
    return felt


async def _stopped_before(stop: asyncio.Event, at_s: float) -> bool:
    """Sleep until ``at_s``; True when told to stop before."""
    pause_s = at_s - time.monotonic()
    if pause_s <= 0:
        await asyncio.sleep(0)
        return stop.is_set()
    try:
        await asyncio.wait_for(stop.wait(), pause_s)
    except TimeoutError:
        return False
    return True
