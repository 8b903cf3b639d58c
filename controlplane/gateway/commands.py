"""What operators ask of live requests: to end one, to serve one (or a tenant's all) as another class.

Commands come on a Redis channel that every gateway hears; the one that has the request
obeys and leaves its answer under a key for half a minute. A lost command is harmless:
whoever sent it finds no answer and says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec

from controlplane import redis_client
from controlplane.gateway.live_requests import LiveRequest
from controlplane.gateway.recovery import GiveUp

logger = logging.getLogger(__name__)

CHANNEL = "gateway-commands"
ANSWER = "command:"
ANSWER_LIFETIME_S = 30
RETRY_FIRST_S, RETRY_LIMIT_S = 0.5, 5.0
CANCELLED = "The request was cancelled by an operator."


class Command(msgspec.Struct, kw_only=True):
    """``request_id`` names one request (or the HTTP request it belongs to), ``tenant`` all of a tenant."""

    id: str
    command: str
    """``cancel`` or ``set_class``"""
    request_id: str = ""
    tenant: str = ""
    slo_class: str = ""
    actor: str = ""


class Answer(msgspec.Struct, kw_only=True):
    ok: bool
    why: str
    requests: int = 0


class LiveWork(Protocol):
    """What commands act on; the gateway."""

    def matching(self, chosen: Callable[[LiveRequest], bool]) -> list[LiveRequest]: ...

    def knows_class(self, slo_class: str) -> bool: ...

    def end(self, live: LiveRequest, give_up: GiveUp) -> None: ...

    def serve_as(self, live: LiveRequest, slo_class: str) -> None: ...


def obey(command: Command, work: LiveWork) -> Answer | None:
    """Carry it out; ``None`` where this gateway has nothing to do with it."""
    lives = work.matching(lambda live: _concerns(command, live))
    if not lives:
        return None
    logger.info("%s asks: %s %s", command.actor or "somebody", command.command, command.request_id or "")
    if command.command == "cancel" and command.request_id:
        for live in lives:
            work.end(live, GiveUp(403, CANCELLED))
        return Answer(ok=True, why="cancelled", requests=len(lives))
    if command.command == "set_class":
        if not work.knows_class(command.slo_class):
            return Answer(ok=False, why=f"there is no class {command.slo_class!r}")
        for live in lives:
            work.serve_as(live, command.slo_class)
        return Answer(ok=True, why=f"served as {command.slo_class}", requests=len(lives))
    return Answer(ok=False, why=f"unknown command {command.command!r}: cancel one request, or set_class")


def _concerns(command: Command, live: LiveRequest) -> bool:
    if command.request_id:
        return command.request_id in (live.request_id, live.call.http_id)
    return bool(command.tenant) and command.tenant == live.call.caller.identity.tenant_slug


def as_class(live: LiveRequest, slo_class: str, rank: int) -> None:
    """From now on this request counts as one of that class."""
    live.call = replace(
        live.call, caller=replace(live.call.caller, slo_class=slo_class, rank=rank, rule="reclassified")
    )


class CommandFeed:
    """Hears the channel until cancelled; a Redis that is away is asked again."""

    def __init__(self, work: LiveWork) -> None:
        self._work = work

    async def run(self) -> None:
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await self._follow()
            except (redis_client.RedisError, OSError, TimeoutError):
                pause_s = min(2 * pause_s, RETRY_LIMIT_S)
            await asyncio.sleep(pause_s)

    async def _follow(self) -> None:
        async with redis_client.connect_async() as client, client.pubsub() as channel:
            await channel.subscribe(redis_client.key(CHANNEL))
            while True:
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=1.0)
                if message is None:
                    continue
                command = read(message["data"])
                answer = obey(command, self._work) if command is not None else None
                if command is not None and answer is not None:
                    key = redis_client.key(ANSWER + command.id)
                    await client.set(key, msgspec.json.encode(answer), ex=ANSWER_LIFETIME_S)


def read(data: bytes) -> Command | None:
    """A command, or ``None`` for what is none."""
    try:
        return msgspec.json.decode(data, type=Command)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        logger.warning("a command could not be read: %s", error)
        return None
