"""Who may listen, from where, and what a browser may say. Through the real ASGI application."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.test import Client

from console.asgi import application
from console.dashboard import consumer, hub, listeners
from controlplane.tenancy.models import Membership
from tests.console.conftest import person
from tests.console.hub_by_hand import HubByHand, directory_of

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = b"http://testserver"


@pytest.fixture
async def by_hand():
    made = HubByHand(directory_of(["main-1"]))
    hub.use_hub(made.hub)
    yield made
    await made.hub.stop()


def session_cookie(role: str | None) -> bytes:
    client = Client()
    client.force_login(person(role))
    return f"sessionid={client.cookies['sessionid'].value}".encode()


class Socket:
    """A browser's end, without a network (``channels.testing`` wants another server installed)."""

    def __init__(self, cookie: bytes = b"", origin: bytes | None = ORIGIN) -> None:
        headers = [(b"host", b"testserver"), (b"cookie", cookie)]
        if origin is not None:
            headers.append((b"origin", origin))
        scope = {"type": "websocket", "path": "/ws/v1/live", "headers": headers, "query_string": b"",
                 "subprotocols": [], "client": ("127.0.0.1", 1), "server": ("testserver", 80)}  # fmt: skip
        self._asgi = ApplicationCommunicator(application, scope)

    async def connect(self) -> bool:
        await self._asgi.send_input({"type": "websocket.connect"})
        return (await self._asgi.receive_output(timeout=10))["type"] == "websocket.accept"

    async def send(self, text: str) -> None:
        await self._asgi.send_input({"type": "websocket.receive", "text": text})

    async def frame(self) -> dict:
        message = await self._asgi.receive_output(timeout=10)
        assert message["type"] == "websocket.send"
        return json.loads(message.get("bytes") or message["text"])

    async def close_code(self) -> int:
        while True:
            message = await self._asgi.receive_output(timeout=10)
            if message["type"] == "websocket.close":
                return message["code"]

    async def disconnect(self) -> None:
        await self._asgi.send_input({"type": "websocket.disconnect", "code": 1000})
        await self._asgi.wait(timeout=10)


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
async def test_every_role_that_may_look_is_sent_the_state(by_hand, role):
    browser = Socket(await sync_to_async(session_cookie)(role))
    assert await browser.connect()
    frame = await browser.frame()
    assert frame["type"] == "snapshot"
    assert [item["id"] for item in frame["state"]["instances"]] == ["main-1"]
    await browser.disconnect()
    assert by_hand.hub.clients == set()


async def test_without_a_session_nothing_is_sent(by_hand):
    browser = Socket()
    await browser.connect()
    assert await browser.close_code() == consumer.NOT_SIGNED_IN
    assert by_hand.hub.clients == set()


async def test_an_account_without_a_role_is_sent_nothing(by_hand):
    browser = Socket(await sync_to_async(session_cookie)(None))
    await browser.connect()
    assert await browser.close_code() == consumer.NO_ROLE


@pytest.mark.parametrize("origin", [b"http://evil.example", None])
async def test_another_origin_is_refused_before_anything_else(by_hand, origin):
    browser = Socket(await sync_to_async(session_cookie)("admin"), origin)
    assert await browser.connect() is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "{}",
        '{"type": "drain"}',
        '{"type": "ack"}',
        '{"type": "ack", "seq": true}',
        '{"type": "history", "of": "secrets", "id": "x"}',
        '{"type": "ack", "seq": 1, "x": "' + "y" * 1_000 + '"}',
    ],
)
async def test_a_message_that_is_not_understood_ends_the_connection(by_hand, text):
    browser = Socket(await sync_to_async(session_cookie)("viewer"))
    await browser.connect()
    await browser.frame()
    await browser.send(text)
    assert await browser.close_code() == consumer.NOT_UNDERSTOOD


async def test_resync_brings_a_snapshot_and_history_the_last_minutes(by_hand):
    browser = Socket(await sync_to_async(session_cookie)("viewer"))
    await browser.connect()
    await browser.frame()
    await browser.send('{"type": "history", "of": "instance", "id": "main-1"}')
    answer = await browser.frame()
    assert (answer["type"], answer["id"], answer["fields"][0]) == ("history", "main-1", "at")
    await browser.send('{"type": "resync"}')
    assert (await browser.frame())["type"] == "snapshot"
    await browser.disconnect()


async def test_a_session_that_ends_ends_the_stream(by_hand, monkeypatch):
    monkeypatch.setattr(listeners, "RECHECK_S", 0.05)
    browser = Socket(await sync_to_async(session_cookie)("viewer"))
    await browser.connect()
    await browser.frame()
    await sync_to_async(Membership.objects.all().delete)()
    assert await browser.close_code() == consumer.NO_ROLE
