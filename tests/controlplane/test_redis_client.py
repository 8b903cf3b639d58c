"""Redis by URL: with a password, over TLS, and shared by fleets that keep apart by prefix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from console.settings import base
from controlplane import redis_client
from controlplane.fleet.agents import FakeAgentClient
from controlplane.fleet.live_status import read_statuses
from controlplane.rebalancing.loop import LoopSettings, RebalancingLoop
from engine_agents.messages import encode
from engine_agents.status import StatusReporter
from tests.controlplane import builders
from tests.controlplane.builders import NOW
from tests.faults.redis_server import PASSWORD, RedisServer
from tests.tls_front import TlsFront, make_certificate

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path_factory.mktemp("redis"))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def tls(server, tmp_path_factory) -> Iterator[tuple[int, Path, Path]]:
    """Port, the authority to trust, and another that signed nothing."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = make_certificate(folder)
    stranger, _ = make_certificate(folder, "stranger")
    front = TlsFront(server.port, certificate, key)
    yield front.port, certificate, stranger
    front.close()


@pytest.fixture(params=["password", "tls"])
def url(request, server, tls) -> str:
    port, certificate, _ = tls
    secured = f"rediss://:{PASSWORD}@localhost:{port}/0?ssl_ca_certs={certificate}&ssl_cert_reqs=required"
    return server.url if request.param == "password" else secured


@pytest.fixture
def emptied(server, url, settings) -> redis.Redis:
    settings.REDIS_URL = url
    settings.REDIS_PREFIX = "east:"
    server.empty()
    return redis.Redis.from_url(server.url)


async def report(url: str, prefix: str, instance_id: str) -> None:
    """As an agent does."""
    reporter = StatusReporter(
        url,
        prefix,
        lambda seq, now_s: builders.status(instance_id, seq=seq, reported_at_s=now_s),
        min_interval_s=0.01,
        max_interval_s=0.1,
    )
    reporter.start()
    await reporter.close()


async def test_agents_and_readers_meet_there(emptied, url):
    await report(url, "east:", "chat-1")
    assert [item.status.instance_id for item in read_statuses(NOW.timestamp())] == ["chat-1"]
    async with redis_client.connect_async() as client:
        assert await client.hlen(redis_client.key("status")) == 1
    assert redis_client.problem() == ""


def test_the_loop_leads_there(emptied, chat_pool, sent_events):
    for name in ("chat-1", "chat-2"):
        builders.instance(name, of=chat_pool)
    reports = (builders.crowded("chat-1"), builders.status("chat-2"))
    emptied.hset("east:status", mapping={each.instance_id: encode(each) for each in reports})
    agents = FakeAgentClient()
    loop = RebalancingLoop(owner="one", agents=agents, settings=LoopSettings())
    assert loop.lead(now_s=100.0, now=NOW)
    loop.tick(now_s=100.2, now=NOW)
    assert [each.source_id for each in agents.moves] == ["chat-1"]
    assert emptied.get("east:loop:lease") == b"one"
    loop.close()


def test_celery_sends_and_receives_there(emptied, url):
    """The same broker settings as in production."""
    app = Celery("there", broker=base.broker_url(url), set_as_current=False)
    app.conf.broker_transport_options = base.broker_transport_options("east:")
    app.conf.broker_use_ssl = base.broker_tls(url)
    app.send_task("somewhere.something", queue="jobs", ignore_result=True)
    with app.connection_for_read() as connection, connection.SimpleQueue("jobs") as queue:
        message = queue.get(timeout=20)
        assert message.headers["task"] == "somewhere.something"
        message.ack()
    assert all(name.startswith(b"east:celery:") for name in emptied.keys("*"))


def test_fleets_with_other_prefixes_share_a_server_and_see_nothing_of_each_other(emptied, settings):
    loops = {}
    for prefix in ("east:", "west:"):
        settings.REDIS_PREFIX = prefix
        emptied.hset(f"{prefix}status", "chat-1", encode(builders.status(f"{prefix[:-1]}-1")))
        loops[prefix] = RebalancingLoop(owner=prefix, agents=FakeAgentClient(), settings=LoopSettings())
        assert loops[prefix].lead(now_s=100.0, now=NOW)
        loops[prefix].tick(now_s=100.2, now=NOW)
        names = [item.status.instance_id for item in read_statuses(NOW.timestamp())]
        assert names == [f"{prefix[:-1]}-1"]
    assert {name.split(b":")[0] for name in emptied.keys("*")} == {b"east", b"west"}
    for loop in loops.values():
        loop.close()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("redis://:wrong@127.0.0.1:{port}/0", "refuses the password"),
        ("redis://127.0.0.1:{port}/0", "wants a password"),
        ("rediss://:{password}@localhost:{tls}/0?ssl_ca_certs={stranger}", "certificate cannot be verified"),
        ("redis://127.0.0.1:1/0", "nobody listens"),
        ("unix:///nowhere/redis.sock", "nobody listens"),
        ("redis://:{password}@127.0.0.1:{tls}/0", "does not answer"),
        ("http://127.0.0.1/", "is no Redis URL"),
    ],
)
def test_what_is_wrong_is_said_in_words(server, tls, settings, bad, says):
    port, _, stranger = tls
    settings.REDIS_URL = bad.format(port=server.port, password=PASSWORD, tls=port, stranger=stranger)
    problem = redis_client.problem()
    assert says in problem
    assert PASSWORD not in problem
    with contextlib.suppress(redis.RedisError, OSError, ValueError):
        redis_client.connect().close()
