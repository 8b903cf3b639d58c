"""The stock way of Channels to tell many browsers the same: a group on ``channels_redis``' core layer.

Only the reference of ``benchmarks.dashboard``: the console's own hub reads and makes the frames, as it does
for the live page; each then goes to a group, and every client is a consumer that passes it on.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings.development")

import django

django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402  (Django must be set up first)
from channels.layers import channel_layers  # noqa: E402  (Django must be set up first)
from channels_redis.core import RedisChannelLayer  # noqa: E402  (Django must be set up first)

from console.dashboard.hub import current_hub  # noqa: E402  (Django must be set up first)

GROUP = "live"
# redis-py's own time-out is as long as the layer's blocking reads: a quiet channel would look like a fault.
LAYER = RedisChannelLayer(hosts=[{"address": os.environ["REDIS_URL"], "socket_timeout": 60}], capacity=1000)


class StockConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Joins the group and passes on what comes."""

    publisher: asyncio.Task[None] | None = None

    async def websocket_connect(self, message: Any) -> None:
        if StockConsumer.publisher is None:
            StockConsumer.publisher = asyncio.create_task(publish())
        await LAYER.group_add(GROUP, self.channel_name)
        await self.accept()

    async def websocket_disconnect(self, message: Any) -> None:
        await LAYER.group_discard(GROUP, self.channel_name)

    async def live_frame(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


async def publish() -> None:
    client = await current_hub().join()
    while True:
        frame = await client.next_frame()
        client.acknowledge(client.seq)
        await LAYER.group_send(GROUP, {"type": "live.frame", "text": frame.decode()})


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The consumer as an ASGI application that uses this layer, whatever the settings name."""
    if scope["type"] == "websocket":
        consumer = StockConsumer()
        consumer.channel_layer_alias = "stock"
        await consumer(scope, receive, send)


channel_layers.set("stock", LAYER)
