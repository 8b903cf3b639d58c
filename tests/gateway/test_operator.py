"""What the console hears from a gateway when Redis is away."""

from __future__ import annotations

import msgspec
import pytest

from controlplane.fleet.asking import GatewayAnswer
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.operator import allowed, operator_answer
from controlplane.scheduling.ledger import Ledger
from engine_agents.messages import GatewayStatus, Waiter, encode
from tests.controlplane.builders import NOW, status


def view() -> FleetView:
    found = FleetView("chat", "gw", Ledger())
    raw = {b"chat-1": encode(status("chat-1", running=3)), b"code-1": encode(status("code-1", pool="code"))}
    found.absorb(raw, now_s=100.0, wall_s=NOW.timestamp())
    return found


def report() -> GatewayStatus:
    return GatewayStatus(
        gateway_id="gw-1",
        incarnation="a",
        pool="chat",
        url="",
        reported_at_s=NOW.timestamp(),
        open_streams=2,
        queued=1,
        per_class=[],
        waiters=[Waiter(request_id="r", slo_class="batch", prompt_tokens=1, waiting_s=1.0)],
    )


def test_the_console_reads_what_a_gateway_answers_and_nobodys_requests():
    raw = operator_answer(report(), view(), frozenset({"chat-1", "chat-9"}), 104.0)
    answer = msgspec.json.decode(raw, type=GatewayAnswer)
    assert (answer.report.open_streams, answer.report.waiters, answer.redis_alive) == (2, [], False)
    seen, unreported = answer.engines
    assert (seen.instance_id, seen.usable, seen.running, seen.age_s) == ("chat-1", True, 3, 4.0)
    assert (unreported.instance_id, unreported.running, unreported.age_s) == ("chat-9", None, None)


@pytest.mark.parametrize(
    ("headers", "token", "opens"),
    [
        ([(b"authorization", b"Bearer good")], "good", True),
        ([(b"authorization", b"Bearer bad")], "good", False),
        ([(b"authorization", b"Bearer ")], "", False),
        ([], "good", False),
        ([(b"authorization", b"Bearer good"), (b"authorization", b"Bearer bad")], "good", False),
    ],
)
def test_only_the_console_is_answered(headers, token, opens):
    assert allowed(headers, token) is opens


def test_a_hole_is_kept_while_the_loop_lives_and_no_longer():
    found = view()
    found.absorb_holes(msgspec.msgpack.encode({"chat": {"chat-1": "r"}, "code": {"x": "y"}}), now_s=100.0)
    assert found.holes(102.9) == {"chat-1": "r"}
    assert found.holes(103.1) == {}
    for garbage in (b"garbage", None):
        found.absorb_holes(msgspec.msgpack.encode({"chat": {"chat-1": "r"}}), now_s=200.0)
        found.absorb_holes(garbage, now_s=200.1)
        assert found.holes(200.2) == {}
