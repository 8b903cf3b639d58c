"""The WebSocket ``/ws/v1/live``: who may listen, and what a browser may ask.

The origin is checked before this (``AllowedHostsOriginValidator``). Close codes:
4401 not signed in, 4403 no role that may look, 4400 a message that is not understood.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, get_args

from asgiref.sync import sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from console.dashboard import hub as hubs
from console.dashboard.history import CLASS_FIELDS, INSTANCE_FIELDS, INTERVAL_S
from console.dashboard.listeners import NO_ROLE, NOT_SIGNED_IN, Credentials
from console.dashboard.protocol import Topic
from console.roles import may_look

NOT_UNDERSTOOD = 4400
MAX_MESSAGE_CHARACTERS = 1_000
TOPICS = frozenset(get_args(Topic))


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """One browser tab. Frames travel as bytes: neither side has to make text of them first."""

    # Nobody sends to single browsers through a channel layer: the hub is the fan-out.
    channel_layer_alias = None
    client: hubs.Client | None = None
    task: asyncio.Task[None] | None = None

    async def dispatch(self, message: dict[str, Any]) -> None:
        """As Channels does, but what a browser says needs no database: no thread tidies up after it."""
        if message["type"] == "websocket.receive":
            await self.websocket_receive(message)
        else:
            await super().dispatch(message)

    async def connect(self) -> None:
        await self.accept()
        code = await self._refusal()
        if code:
            await self.close(code=code)
            return
        self.hub = hubs.current_hub()
        self.client = await self.hub.join()
        self.task = asyncio.create_task(self._send_frames())
        self.hub.listeners.add(self)

    async def disconnect(self, code: int) -> None:
        if self.task is not None:
            self.task.cancel()
        if self.client is not None:
            self.hub.leave(self.client)
            self.hub.listeners.remove(self)

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.scope["session"].session_key, self.scope["user"].pk)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """``{"type": "ack" | "resync" | "subscribe" | "history", …}``; anything else ends the connection."""
        message = parse(text_data)
        if message is None or self.client is None:
            await self.close(code=NOT_UNDERSTOOD)
            return
        match message["type"]:
            case "ack":
                self.client.acknowledge(int(message["seq"]))
            case "resync":
                self.client.resync()
            case "subscribe":
                self.client.subscribe(frozenset(message["topics"]))
            case "history":
                await self._send_history(message["of"], message["id"])

    async def _send_frames(self) -> None:
        client = self.client
        while client is not None:
            frame = await client.next_frame()
            await self.base_send({"type": "websocket.send", "bytes": frame})

    async def _send_history(self, kind: str, key: str) -> None:
        fields = INSTANCE_FIELDS if kind == "instance" else CLASS_FIELDS
        points = self.hub.watcher.history.points(kind, key)
        await self.send(
            text_data=json.dumps(
                {
                    "type": "history",
                    "of": kind,
                    "id": key,
                    "interval_s": INTERVAL_S,
                    "fields": fields,
                    "points": points,
                }
            )
        )

    async def _refusal(self) -> int:
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            return NOT_SIGNED_IN
        return 0 if await sync_to_async(may_look)(user) else NO_ROLE


def parse(text: str | None) -> dict[str, Any] | None:
    """A message of the protocol, or ``None``."""
    if not text or len(text) > MAX_MESSAGE_CHARACTERS:
        return None
    try:
        message = json.loads(text)
    except ValueError:
        return None
    return message if isinstance(message, dict) and _is_understood(message) else None


def _is_understood(message: dict[str, Any]) -> bool:
    match message.get("type"):
        case "ack":
            return isinstance(message.get("seq"), int) and not isinstance(message["seq"], bool)
        case "resync":
            return True
        case "subscribe":
            topics = message.get("topics")
            return isinstance(topics, list) and all(
                isinstance(each, str) and each in TOPICS for each in topics
            )
        case "history":
            return message.get("of") in {"instance", "class"} and isinstance(message.get("id"), str)
    return False
