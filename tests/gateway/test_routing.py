"""Binding, waiting, refusing: the router on a view of reports, without sockets."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from controlplane.gateway.admission import Caller
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.journal import Journal
from controlplane.gateway.live_requests import Call, LiveRequest
from controlplane.gateway.routing import Router
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.snapshot import ClassRule
from engine_agents.messages import Add, InstanceStatus, encode
from engine_agents.vllm_engine.frontend_port import NewRequest
from tests.gateway.identities import CLASSES, identity
from tests.gateway.outputs import PlainEditor

BLOCK = 16
RULES = {name: ClassRule(name, terms.rank, terms.target_load_tokens) for name, terms in CLASSES.items()}


def status(instance_id: str, seq: int = 1, **changes: Any) -> InstanceStatus:
    facts: dict[str, Any] = {
        "instance_id": instance_id,
        "pool": "pool",
        "incarnation": "i",
        "seq": seq,
        "reported_at_s": 0.0,
        "state": "ready",
        "accepting": True,
        "engine": "simulated",
        "engine_version": "",
        "served_model": "tiny",
        "data_endpoint": f"tcp://{instance_id}:5555",
        "peer_endpoint": "",
        "block_size_tokens": BLOCK,
        "total_blocks": 100,
        "used_blocks": 0,
        "reserved_blocks": 0,
        "running": 0,
        "waiting": 0,
        "per_class": [],
        "head_of_line_blocks": 0,
        "queued_blocks": 0,
        "unprefilled_tokens": 0,
        "preempted_waiting": 0,
        "preemptions_total": 0,
        "step_ms": 1.0,
        "tokens_per_s": 0.0,
        "migrations_in": 0,
        "migrations_out": 0,
        "migration_slots": 2,
        "seen": {},
        "lease_epoch": 0,
    }
    return InstanceStatus(**(facts | changes))


class Wires:
    """Takes messages; an instance can be cut off or clogged."""

    def __init__(self) -> None:
        self.up = {"a", "b"}
        self.clogged: set[str] = set()
        self.sent: list[tuple[str, Add]] = []

    def usable(self) -> frozenset[str]:
        return frozenset(self.up)

    def send(self, instance_id: str, message: Any) -> bool:
        if instance_id in self.clogged:
            return False
        self.sent.append((instance_id, message))
        return True


class Scene:
    def __init__(self, policy: str = "llumnix_ledger") -> None:
        self.now = 100.0
        self.journal = Journal(PlainEditor())
        self.ledger = Ledger()
        self.view = FleetView("pool", "me", self.ledger)
        self.view.redis_alive = True
        self.wires = Wires()
        self.router = Router(self.view, self.wires, self.ledger, self.journal)
        self.router.reconfigure(SchedulingConfig.for_policy(policy), RULES)
        self._number = self._seq = 0
        self.report("a")
        self.report("b")

    def report(self, instance_id: str, **changes: Any) -> None:
        self._seq += 1
        raw = {instance_id.encode(): encode(status(instance_id, self._seq, **changes))}
        self.view.absorb(raw, now_s=self.now, wall_s=0.0)
        self.router.changed()

    def request(self, tokens: int = 100, slo_class: str = "standard") -> LiveRequest:
        self._number += 1
        name = f"r{self._number}"
        new = NewRequest(name, b"", tokens, 16, gap_closable=True)
        caller = Caller(identity(slo_class), "", slo_class, CLASSES[slo_class].rank)
        call = Call(name, caller, self.now, datetime.now(UTC))
        return LiveRequest(new, call, self.journal.open(name))

    def place(self, live: LiveRequest):
        return self.router.place(live, self.now)

    def owner(self, live: LiveRequest) -> str:
        return live.entry.owner_id

    def refuse(self, live: LiveRequest) -> None:
        instance_id = live.entry.owner_id
        self.journal.refused(live.entry.engine_id)
        self.router.refused(live, instance_id, self.now)
        self.place(live)


@pytest.fixture(params=["llumnix_ledger", "llumdeck"])
def scene(request: pytest.FixtureRequest) -> Scene:
    return Scene(request.param)


def test_a_burst_between_two_reports_is_spread(scene: Scene) -> None:
    lives = [scene.request() for _ in range(6)]
    for live in lives:
        assert scene.place(live) == []
    owners = [scene.owner(live) for live in lives]
    assert [live.call.served_by for live in lives] == owners
    assert owners.count("a") == owners.count("b") == 3
    assert [message.seq for _, message in scene.wires.sent] == [1, 2, 3, 4, 5, 6]
    assert len(scene.router) == 0


def test_what_a_report_has_seen_leaves_the_ledger(scene: Scene) -> None:
    scene.place(scene.request())
    scene.place(scene.request())
    assert scene.ledger.in_flight("a")[1] + scene.ledger.in_flight("b")[1] == 2
    scene.report("a", seen={"me": 2, "another": 9})
    scene.report("b", seen={"another": 9})
    assert scene.ledger.in_flight("a")[1] + scene.ledger.in_flight("b")[1] == 1


def test_what_was_on_its_way_to_a_lost_instance_does_not_count(scene: Scene) -> None:
    for _ in range(4):
        scene.place(scene.request())
    scene.router.lost("a")
    assert scene.ledger.in_flight("a") == (0, 0) and scene.ledger.in_flight("b")[1] == 2
    live = scene.request()
    scene.place(live)
    assert scene.owner(live) == "a"


def test_without_a_usable_link_requests_wait_and_go_when_one_comes(scene: Scene) -> None:
    scene.wires.up.clear()
    live = scene.request()
    assert scene.place(live) == [] and len(scene.router) == 1
    scene.wires.up.add("b")
    scene.router.changed()
    assert scene.router.pump(scene.now) == []
    assert scene.owner(live) == "b" and len(scene.router) == 0


def test_a_draining_or_stale_instance_gets_nothing(scene: Scene) -> None:
    scene.report("a", accepting=False)
    lives = [scene.request() for _ in range(3)]
    for live in lives:
        scene.place(live)
    assert {scene.owner(live) for live in lives} == {"b"}
    scene.now += 60.0
    scene.router.changed()
    waiting = scene.request()
    scene.place(waiting)
    assert scene.owner(waiting) == ""


def test_while_redis_is_away_old_reports_hold_for_linked_instances(scene: Scene) -> None:
    scene.view.redis_alive = False
    scene.now += 600.0
    scene.router.changed()
    live = scene.request()
    scene.place(live)
    assert scene.owner(live) in {"a", "b"}


def test_without_reports_what_is_over_makes_room_for_others(scene: Scene) -> None:
    """Redis may be away for hours: no report takes anything out of the ledger meanwhile."""
    scene.view.redis_alive = False
    for _ in range(60):
        live = scene.request(tokens=500)
        assert scene.place(live) == [] and scene.owner(live) in {"a", "b"}
        scene.journal.close(live.request_id)
        scene.router.ended(live)
    assert scene.ledger.in_flight("a") == scene.ledger.in_flight("b") == (0, 0)


def test_without_reports_a_request_counts_where_it_was_sent_last(scene: Scene) -> None:
    live = scene.request()
    for _ in range(5):
        scene.place(live)
        scene.journal.revoke(live.request_id, "the engine gave up")
    scene.place(live)
    assert scene.ledger.in_flight("a")[1] + scene.ledger.in_flight("b")[1] == 1
    assert scene.ledger.in_flight(scene.owner(live))[1] == 1


def test_an_engine_that_failed_a_request_does_not_draw_all_others_by_being_empty(scene: Scene) -> None:
    for _ in range(4):
        live = scene.request()
        scene.place(live)
        if scene.owner(live) == "a":
            scene.journal.revoke(live.request_id, "the engine ended it: error")
            scene.router.failed("a", scene.now)
            scene.place(live)
        assert scene.owner(live) == "b"
    scene.now += 1.0
    scene.router.changed()
    live = scene.request()
    scene.place(live)
    assert scene.owner(live) == "a", "a moment later it has its chance"


def test_an_engine_that_failed_is_better_than_none(scene: Scene) -> None:
    scene.report("b", accepting=False)
    scene.router.failed("a", scene.now)
    live = scene.request()
    assert scene.place(live) == [] and scene.owner(live) == "a"


def test_who_waits_too_long_for_its_class_is_told_so(scene: Scene) -> None:
    scene.wires.up.clear()
    quick, patient = scene.request(slo_class="interactive"), scene.request(slo_class="batch")
    scene.place(patient)
    scene.place(quick)
    assert scene.router.pump(scene.now + quick.queue_limit_s) == []
    rejected = scene.router.pump(scene.now + quick.queue_limit_s + 0.2)
    assert [(live, code) for live, code, _ in rejected] == [(quick, 503)]
    assert len(scene.router) == 1


def test_what_can_never_fit_is_a_bad_request(scene: Scene) -> None:
    live = scene.request(tokens=100_000)
    ((rejected, code, reason),) = scene.place(live)
    assert (rejected, code) == (live, 400) and "too_small" in reason
    assert len(scene.router) == 0


def test_a_refusing_instance_is_left_alone_for_a_moment(scene: Scene) -> None:
    live = scene.request()
    scene.place(live)
    first = scene.owner(live)
    scene.refuse(live)
    assert scene.owner(live) == ({"a", "b"} - {first}).pop()
    assert scene.ledger.in_flight(first) == (0, 0)
    scene.refuse(live)
    assert scene.owner(live) == "" and len(scene.router) == 1
    scene.report(first)
    scene.router.pump(scene.now)
    assert scene.owner(live) == first and live.entry.issued == 3


def test_a_clogged_link_leaves_the_request_waiting(scene: Scene) -> None:
    scene.wires.clogged = {"a", "b"}
    live = scene.request()
    scene.place(live)
    assert scene.owner(live) == "" and len(scene.router) == 1
    scene.wires.clogged.clear()
    scene.now += 1.0
    scene.router.pump(scene.now)
    assert scene.owner(live) != "" and scene.ledger.in_flight(scene.owner(live))[1] == 1


def test_interrupted_requests_go_first_then_classes_in_order(scene: Scene) -> None:
    scene.wires.up.clear()
    batch, standard = scene.request(slo_class="batch"), scene.request()
    interactive, lost = scene.request(slo_class="interactive"), scene.request(slo_class="batch")
    lost.lost_at_s = scene.now
    for live in (batch, standard, interactive, lost):
        scene.place(live)
    scene.wires.up.add("a")
    scene.router.changed()
    scene.router.pump(scene.now)
    assert [message.request_id for _, message in scene.wires.sent] == [
        live.request_id for live in (lost, interactive, standard, batch)
    ]


def test_an_aborted_request_does_not_wait_on(scene: Scene) -> None:
    scene.wires.up.clear()
    live = scene.request()
    scene.place(live)
    scene.router.remove(live)
    scene.wires.up.add("a")
    scene.router.changed()
    assert scene.router.pump(scene.now) == [] and scene.wires.sent == []


class TestLateBinding:
    @pytest.fixture
    def scene(self) -> Scene:
        return Scene("llumdeck")

    def test_only_what_fits_now_is_sent_and_says_so(self, scene: Scene) -> None:
        lives = [scene.request(tokens=700) for _ in range(6)]
        for live in lives:
            scene.place(live)
        assert len(scene.router) == 2 and len(scene.wires.sent) == 4
        assert all(message.only_if_fits for _, message in scene.wires.sent)

    def test_small_ones_pass_a_head_that_fits_nowhere(self, scene: Scene) -> None:
        for name in ("a", "b"):
            scene.report(name, used_blocks=80, running=1)
        large, small = scene.request(tokens=1000), scene.request(tokens=100)
        scene.place(large)
        scene.place(small)
        assert (scene.owner(large), scene.owner(small) != "") == ("", True)

    def test_a_fleet_that_was_full_when_redis_went_takes_work_when_its_links_tell_of_room(
        self, scene: Scene
    ) -> None:
        for name in ("a", "b"):
            scene.report(name, used_blocks=99, running=9, unprefilled_tokens=5000)
        scene.view.redis_alive = False
        live = scene.request(tokens=500)
        scene.place(live)
        assert scene.owner(live) == ""
        scene.view.heard("b", 1200, 0)
        scene.now += 0.1
        assert scene.router.pump(scene.now) == []
        assert scene.owner(live) == "b"

    def test_a_preempted_request_comes_home_while_there_is_room_elsewhere(self, scene: Scene) -> None:
        live = scene.request(tokens=100)
        scene.place(live)
        first = scene.owner(live)
        scene.report(first, used_blocks=99, running=3)
        assert scene.router.may_rehome(scene.now)
        assert scene.journal.take_back(live.entry.engine_id) is not None
        assert scene.router.rehome(live, scene.now) == []
        assert scene.owner(live) == ({"a", "b"} - {first}).pop() and live.entry.recoveries == 0
        for name in ("a", "b"):
            scene.report(name, used_blocks=99, queued_blocks=50, running=3)
        assert scene.router.may_rehome(scene.now)
        below = SchedulingConfig.from_dict({"policy": "llumdeck", "queue": {"rehome_below_share": 0.95}})
        scene.router.reconfigure(below, RULES)
        assert not scene.router.may_rehome(scene.now)


def test_immediate_binding_does_not_ask_for_room() -> None:
    scene = Scene("llumnix")
    for _ in range(6):
        scene.place(scene.request(tokens=700))
    assert len(scene.wires.sent) == 6 and not any(message.only_if_fits for _, message in scene.wires.sent)


def test_the_message_carries_class_rank_and_tokens_so_far() -> None:
    scene = Scene()
    live = scene.request(slo_class="interactive")
    live.entry.tokens.extend([5, 6])
    scene.place(live)
    ((_, message),) = scene.wires.sent
    assert (message.slo_class, message.rank, message.tenant) == ("interactive", 0, "demo")
    assert (message.prior_token_ids, message.prompt_tokens) == ([5, 6], 100)
    assert msgspec.msgpack.decode(encode(message), type=Add) == message
