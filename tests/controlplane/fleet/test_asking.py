"""The console asks gateways themselves: each answers, refuses or is away, and nobody waits long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest
from django.test import Client
from django.utils import timezone

from controlplane.fleet.asking import PATH, ask_gateways
from controlplane.fleet.models import GatewayProcess
from controlplane.gateway import operator
from controlplane.gateway.fleet_view import FleetView
from controlplane.scheduling.ledger import Ledger
from engine_agents.messages import ClassLatency, GatewayStatus, encode
from tests.console.conftest import person
from tests.controlplane.builders import NOW, status

pytestmark = pytest.mark.django_db


def answer_of_a_gateway() -> bytes:
    """Made by the gateway's own code."""
    view = FleetView("chat", "gw", Ledger())
    view.absorb({b"chat-1": encode(status("chat-1", running=3))}, now_s=0.0, wall_s=NOW.timestamp())
    report = GatewayStatus(
        gateway_id="gw-1",
        incarnation="a",
        pool="chat",
        url="",
        reported_at_s=NOW.timestamp(),
        open_streams=7,
        queued=0,
        per_class=[ClassLatency(slo_class="batch", requests=5, open=7, ttft_p99_ms=80.0)],
    )
    return operator.operator_answer(report, view, frozenset({"chat-1"}), 1.0)


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
        from django.conf import settings

        good = self.path == PATH and operator.allowed(headers, settings.INTERNAL_TOKEN)
        body = answer_of_a_gateway() if good else b"no"
        self.send_response(200 if good else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def row(gateway_id: str, url: str) -> GatewayProcess:
    return GatewayProcess.objects.create(
        gateway_id=gateway_id,
        incarnation="a",
        pool="chat",
        url=url,
        first_seen_at=timezone.now(),
        last_seen_at=timezone.now(),
    )


def test_streams_latency_and_engines_are_heard_without_redis(url, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    row("gw-1", url)
    row("gw-2", "http://127.0.0.1:1")
    there, away = ask_gateways()
    assert there.answer is not None
    assert there.answer.report.open_streams == 7
    assert there.answer.report.per_class[0].ttft_p99_ms == 80.0
    assert [(each.instance_id, each.usable, each.running) for each in there.answer.engines] == [
        ("chat-1", True, 3)
    ]
    assert away.answer is None
    assert "does not answer" in away.problem
    assert msgspec.json.encode([each.to_dict() for each in (there, away)])


def test_another_fleets_console_is_not_answered(url, settings):
    row("gw-1", url)
    settings.INTERNAL_TOKEN = "another"

    class Other:
        INTERNAL_TOKEN = "the gateway's own"

    original = operator.allowed
    try:
        operator.allowed = lambda headers, _: original(headers, Other.INTERNAL_TOKEN)
        (asked,) = ask_gateways()
    finally:
        operator.allowed = original
    assert (asked.answer, asked.problem) == (None, "does not answer: HTTPStatusError")


def test_health_asks_the_gateways_while_redis_is_away(url, settings, db):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    row("gw-1", url)
    row("gw-2", "http://127.0.0.1:1")
    client = Client()
    client.force_login(person("viewer"))
    found = client.get("/api/v1/health").json()
    assert (found["asked_directly"], found["loop"], found["instances"]) == (True, None, None)
    there, away = found["gateways"]
    assert (there["open_streams"], there["per_class"][0]["ttft_p99_ms"]) == (7, 80.0)
    assert [(each["instance_id"], each["running"]) for each in there["engines"]] == [("chat-1", 3)]
    assert "does not answer" in away["problem"]
    assert (away["open_streams"], away["engines"]) == (None, None)


def test_nobody_is_asked_where_nobody_is_known():
    assert ask_gateways() == []
