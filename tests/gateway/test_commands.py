"""What operators ask of live requests."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import msgspec
import pytest

from controlplane.gateway import commands
from controlplane.gateway.admission import Caller
from controlplane.gateway.commands import Command, as_class, obey, read
from controlplane.gateway.entries import Entry
from controlplane.gateway.live_requests import Call, LiveRequest
from controlplane.gateway.recovery import GiveUp
from engine_agents.vllm_engine.frontend_port import NewRequest
from tests.gateway.identities import identity


def live(request_id: str, http_id: str = "http") -> LiveRequest:
    caller = Caller(identity(), "", "standard", 1)
    new = NewRequest(request_id, b"", 10, 5, True)
    return LiveRequest(
        new, Call(http_id, caller, time.monotonic(), datetime.now(UTC)), Entry(request_id, True)
    )


class Work:
    """Stands for the gateway."""

    def __init__(self, *lives: LiveRequest) -> None:
        self.lives = list(lives)
        self.ended: list[tuple[str, GiveUp]] = []

    def matching(self, chosen):
        return [each for each in self.lives if chosen(each)]

    def knows_class(self, slo_class: str) -> bool:
        return slo_class in {"interactive", "standard", "batch"}

    def end(self, live: LiveRequest, give_up: GiveUp) -> None:
        self.ended.append((live.request_id, give_up))

    def serve_as(self, live: LiveRequest, slo_class: str) -> None:
        as_class(live, slo_class, 2)


def test_a_request_is_cancelled_with_an_error_that_is_not_tried_again() -> None:
    work = Work(live("cmpl-a-0", "a"), live("cmpl-b-0", "b"))
    answer = obey(Command(id="1", command="cancel", request_id="cmpl-a-0"), work)
    assert answer is not None and (answer.ok, answer.requests) == (True, 1)
    assert [(name, give_up.status) for name, give_up in work.ended] == [("cmpl-a-0", 403)]


def test_the_id_of_the_http_request_means_all_its_choices() -> None:
    work = Work(live("cmpl-a-0", "a"), live("cmpl-a-1", "a"))
    answer = obey(Command(id="1", command="cancel", request_id="a"), work)
    assert answer is not None and answer.requests == 2


def test_a_gateway_that_has_it_not_keeps_silent() -> None:
    assert obey(Command(id="1", command="cancel", request_id="x"), Work(live("cmpl-a-0"))) is None


def test_a_tenants_requests_are_served_as_another_class() -> None:
    work = Work(live("a"), live("b"))
    answer = obey(Command(id="1", command="set_class", tenant="demo", slo_class="batch"), work)
    assert answer is not None and answer.ok
    assert {(each.call.caller.slo_class, each.call.caller.rank) for each in work.lives} == {("batch", 2)}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (Command(id="1", command="set_class", request_id="a", slo_class="gold"), "no class 'gold'"),
        (Command(id="1", command="explode", request_id="a"), "unknown command 'explode'"),
        (Command(id="1", command="cancel", tenant="demo"), "cancel one request"),
    ],
)
def test_what_cannot_be_done_is_said(command: Command, says: str) -> None:
    work = Work(live("a"))
    answer = obey(command, work)
    assert answer is not None and not answer.ok and says in answer.why
    assert not work.ended


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"id": 5, "command": "cancel"}', b"\xff"])
def test_garbage_is_no_command(data: bytes) -> None:
    assert read(data) is None


async def test_it_comes_by_redis_and_the_answer_is_left_there(live_redis) -> None:
    work = Work(live("cmpl-a-0"))
    feed = asyncio.create_task(commands.CommandFeed(work).run())
    channel = commands.redis_client.key(commands.CHANNEL)
    answer = commands.redis_client.key("command:7")
    sent = msgspec.json.encode(Command(id="7", command="cancel", request_id="cmpl-a-0", actor="ann"))
    try:
        async with asyncio.timeout(60):
            while not live_redis.publish(channel, sent):  # noqa: ASYNC110 - until it listens
                await asyncio.sleep(0.02)
            while (left := live_redis.get(answer)) is None:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.02)
        assert msgspec.json.decode(left)["ok"] is True
        assert work.ended[0][0] == "cmpl-a-0"
    finally:
        feed.cancel()
