"""The playground: a person's chat goes to a gateway over HTTP and streams back, on a key of minutes."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.core.signals import request_finished
from django.db import close_old_connections
from django.test import AsyncClient
from django.utils import timezone

from console.api.problems import Unavailable
from console.api.views.playground import gateways_up
from controlplane import redis_client
from controlplane.fleet.live_status import GATEWAYS_HASH
from controlplane.records.models import AuditEntry
from controlplane.tenancy import selectors, services
from controlplane.tenancy.models import ApiKey, SLOClass, Tenant
from engine_agents.messages import GatewayStatus, encode

PATH = "/api/v1/playground/chat"
CHUNKS = [
    b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"hel"}}]}\n\n',
    b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":"lo"}}]}\n\n',
    b"data: [DONE]\n\n",
]
MESSAGES = [{"role": "user", "content": "hello"}]


class FakeGateway:
    """Answers as a gateway does, over a socket; waits between two pieces until it is told to go on."""

    def __init__(self) -> None:
        self.status, self.retry_after, self.breaks_off = 200, "", False
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.go_on, self.left = threading.Event(), threading.Event()
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                gateway.asked.append(({name.lower(): value for name, value in self.headers.items()}, body))
                gateway.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, http: BaseHTTPRequestHandler) -> None:
        if self.status != 200:
            refusal = json.dumps({"error": {"message": "too much at once", "code": "x"}}).encode()
            http.send_response(self.status)
            http.send_header("content-length", str(len(refusal)))
            if self.retry_after:
                http.send_header("retry-after", self.retry_after)
            http.end_headers()
            http.wfile.write(refusal)
            return
        http.send_response(200)
        for name, value in {
            "content-type": "text/event-stream; charset=utf-8",
            "transfer-encoding": "chunked",
            "x-served-by": "main-2",
            "x-slo-class": "standard",
            "x-service-tier": "default",
            "x-ratelimit-limit-requests": "60",
            "set-cookie": "not=ours",
        }.items():
            http.send_header(name, value)
        http.end_headers()
        try:
            for piece in CHUNKS:
                http.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                if not self.go_on.wait(30) or self.breaks_off:
                    http.close_connection = True
                    return
            http.wfile.write(b"0\r\n\r\n")
        except OSError:
            pass
        finally:
            self.left.set()


@pytest.fixture
def gateway(live_redis) -> Iterator[FakeGateway]:
    fake = FakeGateway()
    report("gw-1", fake.url)
    yield fake
    fake.go_on.set()
    fake.server.shutdown()
    fake.server.server_close()


def report(name: str, url: str, *, age_s: float = 0.0, open_streams: int = 5, model: str = "tiny") -> None:
    status = GatewayStatus(
        gateway_id=name,
        incarnation="a",
        pool="main",
        url=url,
        reported_at_s=time.time() - age_s,
        open_streams=open_streams,
        queued=0,
        per_class=[],
        served_model=model,
    )
    with redis_client.connect() as client:
        client.hset(redis_client.key(GATEWAYS_HASH), name, encode(status))


def signed_in(as_role, role: str = "operator") -> AsyncClient:
    as_role(role)
    client = AsyncClient()
    client.force_login(User.objects.get(username=f"the-{role}"))
    return client


def talk(client: AsyncClient, meanwhile: Callable[[Any, bytes], None] | None = None, **body: Any):
    """The answer and all that was streamed; ``meanwhile`` is called after the first piece."""

    async def scenario() -> tuple[Any, bytes]:
        answer = await client.post(
            PATH,
            {"messages": MESSAGES, "tenant": "acme", **body},
            content_type="application/json",
            headers={"accept": "text/event-stream"},
        )
        if not answer.streaming:
            return answer, answer.content
        text = b""
        async for piece in answer:
            if not text and meanwhile is not None:
                await sync_to_async(meanwhile)(answer, piece)
            text += piece
        return answer, text

    return async_to_sync(scenario)()


def key_shown(gateway: FakeGateway) -> str:
    return gateway.asked[-1][0]["authorization"].removeprefix("Bearer ")


def test_the_answer_streams_piece_by_piece_with_who_served_it(gateway, as_role):
    def after_the_first(answer: Any, piece: bytes) -> None:
        assert piece == CHUNKS[0], "the first piece arrives while the gateway still has the others"
        identity = selectors.authenticate_key(key_shown(gateway), timezone.now())
        assert identity is not None
        assert (identity.tenant_slug, identity.scopes) == ("acme", frozenset({"inference"}))
        assert identity.expires_at is not None
        assert identity.expires_at <= timezone.now() + timedelta(minutes=10)
        gateway.go_on.set()

    answer, text = talk(signed_in(as_role), after_the_first, max_tokens=7)
    assert text == b"".join(CHUNKS)
    assert answer["Content-Type"].startswith("text/event-stream")
    assert (answer["x-served-by"], answer["x-slo-class"], answer["x-service-tier"]) == (
        "main-2", "standard", "default"
    )  # fmt: skip
    assert answer["x-ratelimit-limit-requests"] == "60"
    assert "set-cookie" not in answer.headers
    headers, body = gateway.asked[0]
    assert body == {"model": "tiny", "messages": MESSAGES, "max_tokens": 7, "stream": True}
    assert headers["x-request-id"] == answer["X-Request-ID"]
    assert "cookie" not in headers


def test_the_key_ends_with_the_answer_and_both_are_audited(gateway, as_role):
    gateway.go_on.set()
    answer, _ = talk(signed_in(as_role))
    assert selectors.authenticate_key(key_shown(gateway), timezone.now()) is None
    entries = AuditEntry.objects.filter(action__startswith="key.").order_by("id")
    assert [(row.action, row.actor, row.request_id) for row in entries] == [
        ("key.issue", "the-operator", answer["X-Request-ID"]),
        ("key.revoke", "the-operator", answer["X-Request-ID"]),
    ]
    assert key_shown(gateway) not in str([row.after for row in entries])


def test_a_long_talk_leaves_one_key_in_the_list_and_old_secrets_stay_dead(gateway, as_role):
    gateway.go_on.set()
    client = signed_in(as_role)
    raws = [key_shown(gateway) for _ in range(3) if talk(client)]
    assert ApiKey.objects.filter(name="playground").count() == 1
    assert len(set(raws)) == 3
    assert not any(selectors.authenticate_key(raw, timezone.now()) for raw in raws)


def test_two_talks_at_once_have_a_key_each(fleet):
    acme = Tenant.objects.get(slug="acme")
    first, second = (services.borrow_key(tenant=acme, actor="ann") for _ in range(2))
    assert first.row.pk != second.row.pk
    assert all(selectors.authenticate_key(each.raw, timezone.now()) for each in (first, second))


@pytest.fixture
def kept_connection() -> Iterator[None]:
    """The end of an answer leaves the test its database, as Django's own client has it."""
    request_finished.disconnect(close_old_connections)
    yield
    request_finished.connect(close_old_connections)


def test_somebody_who_leaves_stops_the_answer_and_its_key(gateway, as_role, kept_connection):
    client = signed_in(as_role)

    async def leave() -> None:
        answer = await client.post(
            PATH, {"messages": MESSAGES, "tenant": "acme"}, content_type="application/json"
        )
        assert answer.streaming
        await sync_to_async(answer.close)()

    async_to_sync(leave)()
    gateway.go_on.set()
    assert gateway.left.wait(30)
    assert ApiKey.objects.get(name="playground").revoked_at is not None


def test_a_gateway_that_breaks_off_is_said_in_the_stream(gateway, as_role):
    gateway.breaks_off = True
    gateway.go_on.set()
    _, text = talk(signed_in(as_role))
    last = json.loads(text.decode().strip().rpartition("data: ")[2])
    assert "broke off" in last["error"]["message"]
    assert ApiKey.objects.get(name="playground").revoked_at is not None


@pytest.mark.parametrize(("status", "expected"), [(429, 429), (400, 400), (500, 503), (401, 503)])
def test_what_the_gateway_refuses_is_a_problem_that_says_why(gateway, as_role, status, expected):
    gateway.status, gateway.retry_after = status, "7" if status == 429 else ""
    answer, content = talk(signed_in(as_role))
    assert answer.status_code == expected
    assert answer["Content-Type"] == "application/problem+json"
    assert "too much at once" in json.loads(content)["detail"]
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert ApiKey.objects.get(name="playground").revoked_at is not None


def test_without_a_gateway_it_says_so_and_issues_nothing(live_redis, as_role):
    report("gw-old", "http://127.0.0.1:1", age_s=60)
    answer, content = talk(signed_in(as_role))
    assert answer.status_code == 503
    assert "No gateway answers" in json.loads(content)["detail"]
    assert not ApiKey.objects.exists()


def test_a_gateway_that_cannot_be_reached_is_passed_over(gateway, as_role):
    report("gw-0", "http://127.0.0.1:1", open_streams=0)
    gateway.go_on.set()
    answer, text = talk(signed_in(as_role))
    assert (answer.status_code, text) == (200, b"".join(CHUNKS))


def test_the_least_busy_gateway_of_the_model_is_asked_first(live_redis):
    report("gw-1", "http://a", open_streams=9)
    report("gw-2", "http://b", open_streams=1)
    report("gw-3", "http://c", open_streams=0, model="other")
    assert [each.gateway_id for each in gateways_up("tiny")] == ["gw-2", "gw-1"]
    assert [each.gateway_id for each in gateways_up("")] == ["gw-3"]
    with pytest.raises(Exception, match="served are: other, tiny"):
        gateways_up("gpt-9")
    live_redis.flushall()
    with pytest.raises(Unavailable):
        gateways_up("")


def test_the_class_is_within_the_tenants_rights(gateway, as_role):
    gateway.go_on.set()
    client = signed_in(as_role)
    answer, content = talk(client, slo_class="interactive")
    assert answer.status_code == 400
    assert json.loads(content)["errors"] == [
        {"field": "slo_class", "message": "interactive is not for tenant acme; it has: standard"}
    ]
    assert not ApiKey.objects.exists()
    Tenant.objects.get(slug="acme").allowed_classes.add(SLOClass.objects.get(name="batch"))
    answer, _ = talk(client, slo_class="batch")
    assert answer.status_code == 200
    assert ApiKey.objects.get().slo_class.name == "batch"
    Tenant.objects.update(active=False)
    answer, content = talk(client)
    assert (answer.status_code, "closed" in json.loads(content)["detail"]) == (409, True)


@pytest.mark.parametrize(
    ("role", "tenant", "status"),
    [("tenant_owner", "acme", 200), ("tenant_owner", "globex", 404), ("viewer", "acme", 403)],
)
def test_whose_tenant_it_may_be(gateway, as_role, role, tenant, status):
    gateway.go_on.set()
    client = signed_in(as_role, role)
    Tenant.objects.create(slug="globex", name="Globex", slo_class=SLOClass.objects.get(name="batch"))
    answer, _ = talk(client, tenant=tenant)
    assert answer.status_code == status
    assert len(gateway.asked) == (status == 200)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "god", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, "messages.0.content"),
        ({"max_tokens": 100_000}, "max_tokens"),
        ({"slo_class": "platinum"}, "slo_class"),
        ({"model": "gpt-9"}, "model"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_a_bad_body_names_its_field(gateway, as_role, body, field):
    answer, content = talk(signed_in(as_role), **body)
    assert answer.status_code == 400
    assert json.loads(content)["errors"][0]["field"] == field
    assert gateway.asked == []
