"""Asking the gateways for something about a live request: on a channel that all of them hear.

The one that has the request obeys and leaves its answer under a key for half a
minute. No answer in time means that no gateway has it (or that it is over).
"""

from __future__ import annotations

import secrets
import time
from typing import cast

import msgspec
import redis

from controlplane import redis_client
from controlplane.records.services import audit

CHANNEL = "gateway-commands"
ANSWER = "command:"
PATIENCE_S = 3.0
LOOK_EVERY_S = 0.05


class GatewayAnswer(msgspec.Struct, kw_only=True):
    """What the request's gateway said."""

    ok: bool
    why: str = ""
    requests: int = 0


def cancel_request(*, request_id: str, actor: str, reason: str = "") -> GatewayAnswer | None:
    """End a live request; ``None``: no gateway has it. Raises ``RedisError``."""
    return _ask("cancel", "request.cancel", request_id, actor, reason)


def set_request_class(
    *, request_id: str, slo_class: str, actor: str, reason: str = ""
) -> GatewayAnswer | None:
    """Serve a live request as another class; ``None``: no gateway has it. Raises ``RedisError``."""
    return _ask("set_class", "request.set_class", request_id, actor, reason, slo_class)


def _ask(
    command: str, action: str, request_id: str, actor: str, reason: str, slo_class: str = ""
) -> GatewayAnswer | None:
    command_id = secrets.token_hex(8)
    message = {"id": command_id, "command": command, "request_id": request_id, "actor": actor}
    message["slo_class"] = slo_class
    client = redis_client.shared(timeout_s=1.0)
    heard = client.publish(redis_client.key(CHANNEL), msgspec.json.encode(message))
    answer = _wait(client, command_id) if heard else None
    if answer is not None and answer.ok:
        audit(
            actor=actor,
            action=action,
            object_type="request",
            object_id=request_id,
            after={"slo_class": slo_class} if slo_class else {},
            reason=reason,
        )
    return answer


def _wait(client: redis.Redis, command_id: str) -> GatewayAnswer | None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        raw = cast(bytes | None, client.get(redis_client.key(f"{ANSWER}{command_id}")))
        if raw:
            return msgspec.json.decode(raw, type=GatewayAnswer)
        time.sleep(LOOK_EVERY_S)
    return None
