"""Limits of waiting, fair order and shedding, in the gateway's own queue."""

from __future__ import annotations

from contextvars import Context, copy_context
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.gateway import service
from controlplane.gateway.admission import Caller
from controlplane.gateway.live_requests import QUEUE_LIMIT_LEAST_S, Call, LiveRequest, current_call
from controlplane.gateway.service import Gateway
from controlplane.tenancy.types import KeyIdentity, LimitTerms
from engine_agents.vllm_engine.frontend_port import AdmissionRefusedError, NewRequest
from tests.gateway.identities import CLASSES, identity
from tests.gateway.test_routing import Scene


class Queue(Scene):
    """Two instances without room: whatever comes must wait."""

    def __init__(self) -> None:
        super().__init__("llumdeck")
        for name in ("a", "b"):
            self.report(name, used_blocks=100, running=4)

    def of(self, who: KeyIdentity, slo_class: str = "standard", tokens: int = 100) -> LiveRequest:
        self._number += 1
        name = f"{who.tenant_slug}-{self._number}"
        caller = Caller(who, "", slo_class, CLASSES[slo_class].rank)
        call = Call(name, caller, self.now, datetime.now(UTC))
        return LiveRequest(
            NewRequest(name, b"", tokens, 16, gap_closable=True), call, self.journal.open(name)
        )

    def order(self) -> list[str]:
        return [entry.request.request_id for entry in self.router._queue]


def who(slug: str, number: int = 1, **limits: Any) -> KeyIdentity:
    terms = (LimitTerms("tenant", f"tenant:{number}", **limits),) if limits else ()
    return replace(identity(), tenant_slug=slug, tenant_id=number, limits=terms)


@pytest.fixture
def queue() -> Queue:
    return Queue()


def refused_by(live: LiveRequest) -> str | None:
    """The limit that its client is told of."""
    assert live.call.refusal is not None and live.call.refusal.status == 429
    return live.call.refusal.param


def test_more_may_not_wait_than_the_limit_says(queue: Queue) -> None:
    limited = who("acme", queued_requests=2)
    lives = [queue.of(limited) for _ in range(4)]
    answers = [queue.router.place(live, queue.now) for live in lives]
    assert [len(each) for each in answers] == [0, 0, 1, 1]
    _, status, reason = answers[2][0]
    assert status == 429 and "tenant.queued_requests" in reason and "2 requests" in reason
    assert refused_by(answers[2][0][0]) == "tenant.queued_requests"
    assert queue.router.place(queue.of(who("other", 2)), queue.now) == []
    queue.router.remove(lives[0])
    assert queue.router.place(queue.of(limited), queue.now) == []


def test_who_had_begun_may_always_wait(queue: Queue) -> None:
    limited = who("acme", queued_requests=0)
    live = queue.of(limited)
    live.entry.issued = 1
    assert queue.router.place(live, queue.now) == []
    assert len(queue.router.place(queue.of(limited), queue.now)) == 1


def test_a_request_waits_no_longer_than_its_limit_says_and_is_told_whose_limit_it_was(queue: Queue) -> None:
    queue.router.place(queue.of(who("acme", queue_seconds=2.0)), queue.now)
    queue.router.place(queue.of(who("other", 2)), queue.now)
    queue.now += 1.9
    assert queue.router.pump(queue.now) == []
    queue.now += 0.2
    ((live, status, reason),) = queue.router.pump(queue.now)
    assert (live.call.caller.identity.tenant_slug, status) == ("acme", 429) and "2 s" in reason
    assert refused_by(live) == "tenant.queue_seconds"
    queue.now += QUEUE_LIMIT_LEAST_S
    ((live, status, _),) = queue.router.pump(queue.now)
    assert status == 503  # what every request may wait: nobody's limit
    assert live.call.refusal is None


def test_tenants_take_turns_and_classes_come_first(queue: Queue) -> None:
    for _ in range(4):
        queue.router.place(queue.of(who("heavy")), queue.now)
    queue.router.place(queue.of(who("light", 2)), queue.now)
    queue.router.place(queue.of(who("heavy"), "interactive"), queue.now)
    names = [name.split("-")[0] for name in queue.order()]
    assert names[0] == "heavy" and names.index("light") <= 2


def test_the_heavier_weight_goes_first_more_often(queue: Queue) -> None:
    paying = replace(who("paying", 2), weight=3.0)
    for _ in range(8):
        queue.router.place(queue.of(who("free")), queue.now)
        queue.router.place(queue.of(paying), queue.now)
    first = [name.split("-")[0] for name in queue.order()[:8]]
    assert first.count("paying") >= 5


# ---------------------------------------------------------------- a full queue


class Front:
    """Takes the failures that clients are told of."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, int]] = []

    def fail(self, request_id: str, status: int, message: str) -> None:
        self.failed.append((request_id, status))


class Full:
    """A gateway whose queue holds three."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.gateway = Gateway(
            model="tiny",
            journal=queue.journal,
            view=queue.view,
            clock=lambda: queue.now,
            record=lambda finished: None,
        )
        self.gateway.front = self.front = Front()  # type: ignore[assignment]
        self.gateway.links = queue.wires  # type: ignore[assignment]
        self.gateway.router = queue.router

    def wait(self, tenant: KeyIdentity, slo_class: str = "standard") -> str:
        live = self.queue.of(tenant, slo_class)
        self.gateway._lives[live.request_id] = live
        self.queue.router.place(live, self.queue.now)
        return live.request_id

    def knock(self, tenant: KeyIdentity, slo_class: str) -> None:
        """As the front half asks before it makes a request of a call."""

        def ask() -> None:
            current_call.set(self.queue.of(tenant, slo_class).call)
            self.gateway.check_admission(1)

        context: Context = copy_context()
        context.run(ask)


@pytest.fixture
def full(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Full:
    monkeypatch.setattr(service, "MAX_QUEUED", 3)
    return Full(queue)


def test_overload_sheds_the_lowest_class_first(full: Full) -> None:
    full.wait(who("a"))
    batch = full.wait(who("a"), "batch")
    full.wait(who("b", 2))
    full.knock(who("c", 3), "standard")
    assert full.front.failed == [(batch, 503)]
    assert full.gateway.counters["shed"] == 1 and len(full.queue.router) == 2


def test_inside_a_class_the_heavy_tenants_newest_gives_way(full: Full) -> None:
    full.wait(who("heavy"))
    newest = full.wait(who("heavy"))
    full.wait(who("light", 2))
    full.knock(who("new", 3), "standard")
    assert full.front.failed == [(newest, 503)]


@pytest.mark.parametrize(("slug", "slo_class"), [("heavy", "standard"), ("light", "batch")])
def test_a_newcomer_that_deserves_no_more_is_refused_itself(full: Full, slug: str, slo_class: str) -> None:
    for _ in range(2):
        full.wait(who("heavy"))
    full.wait(who("light", 2))
    with pytest.raises(AdmissionRefusedError) as caught:
        full.knock(who(slug, 1), slo_class)
    assert caught.value.status == 503 and full.front.failed == []
