"""WebSocket routes of the live dashboard."""

from __future__ import annotations

from django.urls import URLPattern, path

from console.dashboard.consumer import LiveConsumer

websocket_urlpatterns: list[URLPattern] = [path("ws/v1/live", LiveConsumer.as_asgi())]
