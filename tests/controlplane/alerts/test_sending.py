"""Case 43: nothing reaches an address that was not judged; and what does is signed, tried again, logged."""

from __future__ import annotations

import json
import socket
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.utils import timezone

from controlplane.alerts import deliveries, sending, services, signing
from controlplane.alerts.models import Delivery, Webhook
from tests.controlplane.builders import NOW


class Receiver(HTTPServer):
    """A webhook's other end, that remembers what it heard."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, str]] = []
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}/hook"

    def close(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.path, dict(self.headers), body))
        status, location = self.server.answers.pop(0) if self.server.answers else (200, "")
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args) -> None:
        pass


@pytest.fixture
def receiver(settings):
    settings.WEBHOOK_NETWORKS = ["127.0.0.0/8"]
    settings.WEBHOOK_HTTPS_ONLY = False
    server = Receiver()
    yield server
    server.close()


FORBIDDEN = ["169.254.169.254", "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "0.0.0.0",
             "[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "224.0.0.1",
             "[2002:7f00:1::]", "localhost", "0x7f000001", "2130706433"]  # fmt: skip


@pytest.mark.parametrize("host", FORBIDDEN)
def test_private_link_local_and_special_addresses_are_refused(host):
    with pytest.raises((sending.ForbiddenTargetError, sending.SendingError)) as caught:
        sending.resolve(f"https://{host}/latest/meta-data")
    if host != "2130706433" and not host.startswith("0x"):
        assert isinstance(caught.value, sending.ForbiddenTargetError)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://x/", "http://example.com/", "https://", "https://u:p@example.com/",
     "https://example.com:0/", "https://example.com:99999/", "//example.com", "https://[::1"],
)  # fmt: skip
def test_only_https_to_a_plain_host_is_taken(url):
    with pytest.raises(sending.ForbiddenTargetError):
        sending.check_url(url)


def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch):
    answers = [(2, 1, 6, "", ("93.184.216.34", 443)), (2, 1, 6, "", ("10.0.0.1", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
    with pytest.raises(sending.ForbiddenTargetError, match=r"10\.0\.0\.1"):
        sending.resolve("https://two-faced.example/")


def test_the_connection_goes_to_the_address_that_was_judged(receiver, monkeypatch):
    """DNS rebinding: the name's second answer is never asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host, *args, **kwargs):
        asked.append(host)
        if host == "rebind.example" and asked.count(host) > 1:
            return real("169.254.169.254", *args, **kwargs)
        return real("127.0.0.1" if host == "rebind.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert sending.send(f"http://rebind.example:{receiver.server_port}/x", b"{}", {}) == 200
    assert asked.count("rebind.example") == 1
    assert receiver.heard[0][1]["Host"] == f"rebind.example:{receiver.server_port}"


def test_a_redirect_is_not_followed(receiver):
    receiver.answers = [(302, "http://169.254.169.254/")]
    assert sending.send(receiver.url, b"{}", {}) == 302
    assert len(receiver.heard) == 1


@pytest.fixture
def hook(db, receiver, sent_events) -> Webhook:
    return Webhook.objects.create(name="pager", url=receiver.url, salt="s", created_by="t", created_at=NOW)


def sent(hook: Webhook) -> Delivery:
    row = deliveries.new_delivery(hook, "alert.firing", {"rule": "queue-time"}, now=timezone.now())
    deliveries.attempt(row.pk)
    row.refresh_from_db()
    return row


def test_a_delivery_is_signed_and_logged(hook, receiver):
    row = sent(hook)
    assert (row.state, row.status, row.attempts) == ("delivered", 200, 1)
    path, headers, body = receiver.heard[0]
    assert (path, headers["Llumdeck-Event"]) == ("/hook", "alert.firing")
    assert json.loads(body)["data"] == {"rule": "queue-time"}
    secret, now_s = signing.secret_of(hook.salt), timezone.now().timestamp()
    assert signing.is_genuine(secret, body, headers[signing.HEADER], now_s=now_s)
    assert not signing.is_genuine(secret, body + b" ", headers[signing.HEADER], now_s=now_s)
    assert not signing.is_genuine("whsec_other", body, headers[signing.HEADER], now_s=now_s)
    assert not signing.is_genuine(secret, body, headers[signing.HEADER], now_s=now_s + 301)


def test_a_failed_delivery_is_tried_again_with_growing_pauses_and_given_up_at_last(
    hook, receiver, monkeypatch
):
    counted: list[int] = []
    monkeypatch.setattr(deliveries, "_send_soon", lambda pk, countdown_s: counted.append(countdown_s))
    receiver.answers = [(500, "")] * 8
    row = sent(hook)
    while row.state == "waiting":
        assert deliveries.attempt(row.pk) is None, "it is not due yet"
        Delivery.objects.filter(pk=row.pk).update(due_at=timezone.now() - timedelta(seconds=1))
        assert deliveries.sweep(now=timezone.now()) == [row.pk]
        deliveries.attempt(row.pk)
        row.refresh_from_db()
    assert (row.state, row.attempts, row.problem) == ("failed", 8, "answered 500")
    assert counted == sorted(counted) == [11, 31, 121, 601, 1801, 3601, 7201]


def test_an_end_that_moved_to_a_private_address_is_given_up_at_once(hook, settings):
    settings.WEBHOOK_NETWORKS = []
    row = sent(hook)
    assert row.state == "failed"
    assert "not a public address" in row.problem


def test_a_silent_end_is_tried_again(hook, receiver):
    hook.url = "http://127.0.0.1:9/"
    hook.save()
    row = sent(hook)
    assert (row.state, row.status) == ("waiting", None)
    assert "ConnectError" in row.problem


def test_two_workers_never_send_the_same_delivery(hook, receiver):
    row = deliveries.new_delivery(hook, "test", {}, now=timezone.now())
    deliveries.attempt(row.pk)
    assert deliveries.attempt(row.pk) is None
    assert len(receiver.heard) == 1


def test_a_secret_is_derived_and_ends_with_its_rotation(hook):
    first = signing.secret_of(hook.salt)
    second = services.rotate_webhook_secret(webhook=hook, actor="ada")
    assert first != second
    assert len({first, second} & set(map(str, Webhook.objects.values_list("salt", flat=True)))) == 0
