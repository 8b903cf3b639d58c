"""Clients that wait, that do not read, that never finish asking; and what the others notice of them."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from controlplane.gateway.http_protocol import MAX_HEAD_BYTES, BoundedProtocol
from controlplane.gateway.reply import KEEP_ALIVE
from tests.gateway.harness import MODEL, Fleet

pytestmark = [pytest.mark.engine, pytest.mark.paced]

KEY = {"Authorization": "Bearer good-key"}
SLOW = {"base_step_ms": 10.0}
EPOCHS = itertools.count(1)


@pytest.fixture
def agents(fleet: Fleet) -> Iterator[Fleet]:
    for name in ("a", "b"):
        fleet.add_agent(name)
    yield fleet
    for name in list(fleet.agents):
        fleet.stop_agent(name)
    fleet.wait_for(lambda: not fleet.gateway.links.usable())


@pytest.fixture
def client(fleet: Fleet) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{fleet.url}/v1", api_key="good-key", max_retries=0, timeout=120)


@pytest.fixture
def watchful(fleet: Fleet) -> Iterator[Fleet]:
    """Comments after a fifth of a second instead of fifteen, patience of one second instead of thirty."""
    care = fleet.process.door.care
    before = care.keep_alive_s, care.stall_limit_s
    care.keep_alive_s, care.stall_limit_s = 0.2, 1.0
    yield fleet
    care.keep_alive_s, care.stall_limit_s = before


def text_of(body: bytes) -> str:
    events = [line[6:] for line in body.decode().split("\n") if line.startswith("data: {")]
    return "".join(choice["text"] for event in events for choice in json.loads(event)["choices"])


def collect(fleet: Fleet, body: dict[str, Any], when: dict[bytes, Any]) -> bytes:
    """A stream's bytes; ``when[piece]`` is called once, as soon as ``piece`` was seen."""
    found = b""
    with (
        httpx.Client(base_url=fleet.url, headers=KEY, timeout=120) as raw,
        raw.stream("POST", "/v1/completions", json=body | {"model": MODEL, "stream": True}) as reply,
    ):
        assert reply.status_code == 200
        for piece in reply.iter_raw():
            found += piece
            for seen in [each for each in when if each in found]:
                when.pop(seen)()
    return found


class TestKeepAlive:
    ask = {"prompt": "Wait for me", "max_tokens": 40, "temperature": 0}

    def test_a_stream_that_is_queued_gets_comments(self, agents: Fleet, watchful: Fleet, client) -> None:
        expected = client.completions.create(model=MODEL, **self.ask).choices[0].text
        drain(agents, accepting=False)
        found = collect(agents, self.ask, {KEEP_ALIVE * 2: lambda: drain(agents, accepting=True)})
        assert found.startswith(KEEP_ALIVE) and found.endswith(b"data: [DONE]\n\n")
        assert text_of(found) == expected

    def test_and_says_meanwhile_what_it_waits_for(self, agents: Fleet, watchful: Fleet) -> None:
        drain(agents, accepting=False)
        seen: list[Any] = []

        def look() -> None:
            seen.extend(agents.loop.call(agents.process.report).waiters)
            drain(agents, accepting=True)

        collect(agents, self.ask, {KEEP_ALIVE: look})
        (waiter,) = seen
        assert (waiter.position, waiter.tenant, waiter.recovering) == (1, "demo", False)
        assert waiter.why == "instances are being drained" and waiter.waiting_s > 0
        assert waiter.needed_tokens == waiter.prompt_tokens > 0

    def test_a_stream_that_is_recovered_gets_comments_and_loses_nothing(
        self, agents: Fleet, watchful: Fleet, client
    ) -> None:
        expected = client.completions.create(model=MODEL, **self.ask).choices[0].text
        agents.add_agent("c", engine_args=SLOW)
        agents.stop_agent("a")
        agents.stop_agent("b")
        found = collect(
            agents,
            self.ask,
            {b"data: ": lambda: agents.kill("c"), KEEP_ALIVE: lambda: agents.add_agent("d")},
        )
        assert KEEP_ALIVE in found and text_of(found) == expected


def drain(fleet: Fleet, *, accepting: bool) -> None:
    epoch = next(EPOCHS)
    for agent in fleet.agents.values():
        fleet.loop.call(agent.set_accepting, accepting, epoch)
    view = fleet.process.view
    fleet.wait_for(lambda: all(each.status.accepting == accepting for each in view.seen(time.monotonic())))


def open_socket(fleet: Fleet, receive_bytes: int = 0) -> socket.socket:
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.connect(("127.0.0.1", fleet.port))
    made.settimeout(60)
    return made


def is_closed(connection: socket.socket) -> bool:
    """Nothing but an end is to be read."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(65_536):
            pass
    return True


class TestSlowReaders:
    def test_they_are_cut_off_and_nobody_else_notices(self, agents: Fleet, watchful: Fleet, client) -> None:
        body = b'{"model": "tiny", "n": 6, "prompt": "x", "max_tokens": 1900, '
        body += b'"ignore_eos": true, "stream": true}'
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer good-key\r\n"
        head += b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        readers = [open_socket(agents, 4096) for _ in range(4)]
        before = agents.process.door.care.cut
        for reader in readers:
            reader.sendall(head + body)
        other = client.completions.create(
            model=MODEL,
            prompt="And me?",
            max_tokens=60,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"ignore_eos": True},
        )
        assert list(other)[-1].usage.completion_tokens == 60
        agents.wait_for(lambda: agents.process.door.care.cut - before == len(readers))
        agents.wait_for(lambda: agents.gateway.open_requests == 0)
        agents.wait_for(lambda: sum(each.engine.load().used_blocks for each in agents.agents.values()) == 0)
        for reader in readers:
            reader.close()

    def test_a_long_stream_that_is_read_is_not_cut(self, agents: Fleet, watchful: Fleet) -> None:
        before = agents.process.door.care.cut
        found = collect(agents, {"prompt": "x", "max_tokens": 1900, "n": 2, "ignore_eos": True}, {})
        assert found.endswith(b"data: [DONE]\n\n") and agents.process.door.care.cut == before


class TestSlowAskers:
    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BoundedProtocol, "head_limit_s", 0.5)

    @pytest.mark.parametrize("sent", [b"", b"POST /v1/comp", b"GET /health HTTP/1.1\r\nhost: x\r\nx-a: "])
    def test_heads_that_do_not_end_are_not_waited_for(self, agents: Fleet, sent: bytes) -> None:
        askers = [open_socket(agents) for _ in range(50)]
        for asker in askers:
            asker.sendall(sent)
        assert httpx.get(f"{agents.url}/health", timeout=60).status_code == 200
        assert all(is_closed(asker) for asker in askers)
        assert httpx.get(f"{agents.url}/health", timeout=60).status_code == 200

    def test_a_head_that_trickles_is_cut_although_something_comes(self, agents: Fleet) -> None:
        asker = open_socket(agents)
        asker.sendall(b"GET /health HTTP/1.1\r\n")

        def trickle() -> None:
            with contextlib.suppress(OSError):
                for number in range(600):
                    asker.sendall(b"x-%d: y\r\n" % number)
                    time.sleep(0.05)

        thread = threading.Thread(target=trickle)
        thread.start()
        assert is_closed(asker)
        asker.close()
        thread.join()

    def test_the_second_request_of_a_connection_is_bounded_too(self, agents: Fleet) -> None:
        asker = open_socket(agents)
        asker.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"200" in asker.recv(65_536)
        asker.sendall(b"GET /hea")
        assert is_closed(asker)

    def test_a_head_without_end_is_refused(self, agents: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BoundedProtocol, "head_limit_s", 60.0)
        asker = open_socket(agents)
        with contextlib.suppress(ConnectionError):
            asker.sendall(b"GET /health HTTP/1.1\r\nx-long: " + b"a" * (MAX_HEAD_BYTES + 70_000))
        with contextlib.suppress(ConnectionError):
            assert asker.recv(65_536).startswith(b"HTTP/1.1 431")

    def test_what_is_no_http_gets_an_error_in_openais_shape(self, agents: Fleet) -> None:
        asker = open_socket(agents)
        asker.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = asker.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 400") and b'"code":"invalid_http"' in answer

    def test_connections_are_limited(self, agents: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(BoundedProtocol, "head_limit_s", 60.0)
        monkeypatch.setattr(BoundedProtocol, "max_connections", 20)
        askers = [open_socket(agents) for _ in range(20)]
        try:
            agents.wait_for(lambda: len(agents.server.server_state.connections) >= 20)
            reply = httpx.get(f"{agents.url}/health", timeout=60)
            assert reply.status_code == 503 and reply.json()["error"]["code"] == "too_many_connections"
            assert reply.headers["retry-after"]
        finally:
            for asker in askers:
                asker.close()


class TestHeaders:
    def test_the_clients_trace_goes_on(self, agents: Fleet) -> None:
        trace, body = "4bf92f3577b34da6a3ce929d0e0e4736", {"model": MODEL, "prompt": "x", "max_tokens": 1}
        parent = f"00-{trace}-00f067aa0ba902b7-01"
        with httpx.Client(base_url=agents.url, headers=KEY, timeout=60) as raw:
            kept = raw.post(
                "/v1/completions", json=body, headers={"traceparent": parent, "X-Request-ID": "mine"}
            )
            assert kept.headers["x-request-id"] == "mine"
            assert kept.headers["traceparent"].split("-")[1] == trace
            assert kept.headers["traceparent"] != parent, "the gateway's own span"
            made = raw.post("/v1/completions", json=body, headers={"traceparent": "nonsense"})
            assert made.headers["traceparent"].split("-")[1] == made.headers["x-request-id"]

    def test_cookies_open_no_door(self, agents: Fleet) -> None:
        reply = httpx.get(f"{agents.url}/v1/models", headers={"Cookie": "sessionid=good-key; key=good-key"})
        assert reply.status_code == 401
        assert "set-cookie" not in httpx.get(f"{agents.url}/v1/models", headers=KEY).headers
