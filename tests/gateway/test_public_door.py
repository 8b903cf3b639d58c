"""One port in front of several pools and gateways: what goes where, and what a gateway's death costs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
import uvloop

from controlplane.gateway.abuse import AbuseLog
from controlplane.gateway.admission import Admission
from controlplane.gateway.app import Door
from controlplane.gateway.http_protocol import BoundedProtocol
from controlplane.gateway.keys import KeyCache
from controlplane.gateway.limits.book import LimitBook
from controlplane.gateway.limits.store import LocalStore
from controlplane.gateway.public.app import PublicDoor
from controlplane.gateway.public.backends import STALE_S, Backends
from engine_agents.messages import GatewayStatus, encode
from tests.gateway.identities import KEYS

KEY = {"Authorization": "Bearer k"}


class FakeGateway:
    """Answers with its name and what it was asked; streams until told to stop."""

    def __init__(self, name: str, model: str) -> None:
        self.name, self.model = name, model
        self.seen: list[dict[str, Any]] = []
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.left = asyncio.Event()
        self.drop: Any = None

    async def __call__(self, scope, receive, send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.seen.append({"path": scope["path"], "headers": headers, "body": body})
        self.drop = scope["extensions"]["llumdeck.cut"]
        if scope["path"] == "/v1/models":
            await self._answer(send, {"data": [{"id": self.model}]})
        elif b'"stream":true' in body:
            await self._stream(receive, send)
        else:
            await self._answer(send, {"gateway": self.name, "bytes": len(body)})

    async def _answer(self, send, content: Any) -> None:
        encoded = msgspec.json.encode(content)
        head = [(b"content-type", b"application/json"), (b"content-length", str(len(encoded)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": encoded})

    async def _stream(self, receive, send) -> None:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        leaving = asyncio.ensure_future(receive())
        leaving.add_done_callback(lambda _: self.left.set())
        while piece := await self.pieces.get():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        leaving.cancel()
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    settings = uvicorn.Config(
        app,
        port=0,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(settings)
    serving = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        await serving


class Scene:
    """Two gateways of model a, one of b, the public door, a client."""

    client: httpx.AsyncClient

    def __init__(self) -> None:
        self.gateways = [FakeGateway("a1", "a"), FakeGateway("a2", "a"), FakeGateway("b1", "b")]
        self.urls: list[str] = []
        self.servers: list[uvicorn.Server] = []

    async def ask(self, model: str, **fields: Any) -> httpx.Response:
        return await self.client.post("/v1/completions", json={"model": model, **fields})

    async def stop(self, number: int) -> None:
        """Its port is closed."""
        self.servers[number].should_exit = True
        while self.servers[number].servers[0].is_serving():  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with (
        served(scene.gateways[0]) as a1,
        served(scene.gateways[1]) as a2,
        served(scene.gateways[2]) as b1,
    ):
        scene.urls = [a1[0], a2[0], b1[0]]
        scene.servers = [a1[1], a2[1], b1[1]]
        backends = Backends(time.monotonic, [("a", a1[0]), ("a", a2[0]), ("b", b1[0])])
        async with (
            served(PublicDoor(backends, time.monotonic)) as (url, front),
            httpx.AsyncClient(base_url=url, headers=KEY, timeout=30) as client,
        ):
            scene.client = client
            yield scene
            for server in (*scene.servers, front):  # together: each takes a while
                server.should_exit = True
        for backend in backends.all():
            backend.close()


async def test_the_model_chooses_the_pool_and_its_gateways_take_turns(scene: Scene) -> None:
    assert {(await scene.ask("a")).json()["gateway"] for _ in range(8)} == {"a1", "a2"}
    assert {(await scene.ask("b")).json()["gateway"] for _ in range(3)} == {"b1"}


async def test_an_unknown_model_is_openais_404_and_none_is_asked_for(scene: Scene) -> None:
    reply = await scene.ask("c")
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == "model_not_found"
    assert "Valid aliases: a, b" in reply.json()["error"]["message"]
    reply = await scene.client.post("/v1/completions", json={"prompt": "x"})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "model")


async def test_what_is_no_json_is_answered_by_a_gateway(scene: Scene) -> None:
    reply = await scene.client.post("/v1/completions", content=b"{broken")
    assert reply.json() == {"gateway": reply.json()["gateway"], "bytes": 7}


async def test_all_models_are_listed(scene: Scene) -> None:
    reply = await scene.client.get("/v1/models")
    assert [model["id"] for model in reply.json()["data"]] == ["a", "b"]
    assert scene.gateways[2].seen[0]["headers"]["authorization"] == "Bearer k"


async def test_a_gateway_learns_the_clients_address_and_the_whole_body(scene: Scene) -> None:
    text = "x" * 300_000
    headers = {"X-Forwarded-For": "10.1.1.1", "X-Request-ID": "mine"}
    reply = await scene.client.post("/v1/completions", json={"model": "b", "prompt": text}, headers=headers)
    seen = scene.gateways[2].seen[0]
    assert seen["headers"]["x-forwarded-for"] == "10.1.1.1, 127.0.0.1"
    assert seen["headers"]["x-request-id"] == "mine" and text.encode() in seen["body"]
    assert reply.json()["bytes"] == len(seen["body"])


@pytest.mark.parametrize(("caller", "status"), [("192.0.2.7", 200), ("198.51.100.7", 403)])
async def test_a_keys_networks_hold_behind_the_public_port(caller: str, status: int) -> None:
    """One more proxy stands before it and says who called; what the client itself claims does not count."""
    who = replace(KEYS["good-key"], networks=(ip_network("192.0.2.0/24"),))
    local = (ip_network("127.0.0.0/8"),)
    keys = KeyCache(lambda *_: who, time.monotonic, lambda: datetime.now(UTC), local)
    book = LimitBook(LocalStore(time.monotonic), time.monotonic)
    admission = Admission(keys, book, AbuseLog(time.monotonic), time.monotonic)
    door = Door(admission, dict, time.monotonic, lambda: datetime.now(UTC))
    door.inner = FakeGateway("a1", "a")
    async with served(door) as (url, _):
        backends = Backends(time.monotonic, [("a", url)])
        async with (
            served(PublicDoor(backends, time.monotonic)) as (public, _),
            httpx.AsyncClient(base_url=public, headers=KEY, timeout=30) as client,
        ):
            headers = {"X-Forwarded-For": f"192.0.2.1, {caller}"}
            reply = await client.post("/v1/completions", json={"model": "a"}, headers=headers)
            assert reply.status_code == status
            assert (await client.get("/v1/models", headers=headers)).status_code == status
            assert (await client.post("/v1/completions", json={"model": "a"})).status_code == 403
        for backend in backends.all():
            backend.close()
    keys.close()


async def test_pieces_of_a_stream_come_as_they_are_made(scene: Scene) -> None:
    made = scene.gateways[2].pieces
    request = scene.client.stream("POST", "/v1/completions", content=b'{"model":"b","stream":true}')
    async with request as reply:
        pieces = reply.aiter_raw()
        for number in range(5):
            made.put_nowait(b"data: %d\n\n" % number)
            assert await anext(pieces) == b"data: %d\n\n" % number
        made.put_nowait(b"")
        assert [piece async for piece in pieces] == []


async def test_a_client_that_leaves_is_told_to_the_gateway(scene: Scene) -> None:
    gateway = scene.gateways[2]
    gateway.pieces.put_nowait(b"data: 1\n\n")
    request = scene.client.stream("POST", "/v1/completions", content=b'{"model":"b","stream":true}')
    async with request as reply:
        await anext(reply.aiter_raw())
    await asyncio.wait_for(gateway.left.wait(), 30)


async def test_a_dead_gateway_costs_nothing_while_another_lives(scene: Scene) -> None:
    for _ in range(4):
        await scene.ask("a")
    await scene.stop(0)
    assert {(await scene.ask("a")).json()["gateway"] for _ in range(6)} == {"a2"}


async def test_with_none_left_it_is_a_503_at_once(scene: Scene) -> None:
    await scene.stop(2)
    reply = await scene.ask("b")
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "no_gateway")
    assert reply.headers["retry-after"]


async def test_a_stream_that_breaks_off_does_not_look_whole(scene: Scene) -> None:
    gateway = scene.gateways[2]
    gateway.pieces.put_nowait(b"data: 1\n\n")
    request = scene.client.stream("POST", "/v1/completions", content=b'{"model":"b","stream":true}')
    with pytest.raises(httpx.RemoteProtocolError):
        async with request as reply:
            async for _ in reply.aiter_raw():
                gateway.drop()


async def test_a_slow_reader_stops_the_reading_from_its_gateway(scene: Scene) -> None:
    gateway = scene.gateways[2]
    for _ in range(400):
        gateway.pieces.put_nowait(b"x" * 100_000)
    gateway.pieces.put_nowait(b"")
    request = scene.client.stream("POST", "/v1/completions", content=b'{"model":"b","stream":true}')
    async with request as reply:
        pieces = reply.aiter_raw()
        size = len(await anext(pieces))
        await asyncio.sleep(0.5)
        assert gateway.pieces.qsize() > 100, "forty megabytes were read ahead"
        async for piece in pieces:
            size += len(piece)
    assert size == 40_000_000


def test_it_works_on_the_loop_it_runs_on() -> None:
    """Not the tests' own: uvloop's transports and protocols differ in small things."""

    async def ask() -> int:
        async with served(FakeGateway("a1", "a")) as (gateway, _):
            backends = Backends(time.monotonic, [("a", gateway)])
            async with (
                served(PublicDoor(backends, time.monotonic)) as (url, _),
                httpx.AsyncClient(base_url=url, headers=KEY, timeout=30) as client,
            ):
                replies = [await client.post("/v1/completions", json={"model": "a"}) for _ in range(3)]
            backends.all()[0].close()
        return sum(reply.status_code == 200 for reply in replies)

    assert uvloop.run(ask()) == 3


def report(url: str, model: str, at_s: float) -> dict[bytes, bytes]:
    status = GatewayStatus(
        gateway_id=url, incarnation="1", pool=model, url=url, reported_at_s=at_s, open_streams=0, queued=0,
        per_class=[], served_model=model,
    )  # fmt: skip
    return {url.encode(): encode(status)}


class TestBackends:
    def test_gateways_come_and_go_by_their_reports(self) -> None:
        now = [0.0]
        backends = Backends(lambda: now[0])
        backends.absorb(report("http://h:1", "a", 1.0) | report("http://h:2", "b", 1.0) | {b"x": b"garbage"})
        assert backends.models == ["a", "b"]
        assert [each.port for each in backends.all()] == [1, 2]
        now[0] = STALE_S + 1
        backends.absorb(report("http://h:1", "a", 7.0) | report("http://h:2", "b", 1.0))
        assert backends.choose("a") is not None
        assert backends.choose("b") is None, "its report is old"
        assert backends.models == ["a", "b"], "a model without gateways is no unknown model"

    def test_the_least_busy_is_chosen_and_one_that_failed_comes_last(self) -> None:
        now = [0.0]
        backends = Backends(lambda: now[0], [("a", "http://h:1"), ("a", "http://h:2")])
        first, second = backends.all()
        first.in_flight = 3
        assert backends.choose("a") is second
        backends.failed(second)
        assert backends.choose("a") is first
        assert backends.choose("a", tried=[first]) is second
        now[0] = 10.0
        assert backends.choose("a") is second

    def test_turns_are_taken_among_equals(self) -> None:
        backends = Backends(lambda: 0.0, [("a", "http://h:1"), ("a", "http://h:2")])
        chosen = [str(backends.choose("a")) for _ in range(4)]
        assert sorted(chosen.count(each) for each in set(chosen)) == [2, 2]


def test_it_loads_neither_vllm_nor_torch() -> None:
    code = (
        "import sys, controlplane.gateway.public.__main__, controlplane.gateway.public.app;"
        "print([name for name in ('vllm', 'torch', 'transformers') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert found.stdout.strip() == "[]", found.stderr
