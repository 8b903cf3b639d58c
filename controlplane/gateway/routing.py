"""From a request to an instance: the policy core on the gateway's view, and a queue for what must wait.

The router decides nothing itself: :mod:`controlplane.scheduling` does. Policies that
bind at once are asked per request (and what they hold waits here); late-binding ones
walk the queue. The router binds, sends, and keeps the ledger of what was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Protocol

from controlplane.gateway.admission import Caller
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.journal import Journal
from controlplane.gateway.limits.crowd import Crowd
from controlplane.gateway.limits.refusals import LIMITED, LimitError
from controlplane.gateway.limits.terms import title
from controlplane.gateway.live_requests import LiveRequest
from controlplane.gateway.waiting import waiters
from controlplane.scheduling import filters, policies, queueing
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Hold, Reject
from controlplane.scheduling.dispatch import refusal
from controlplane.scheduling.fair_share import FairQueue
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.placement import Queued
from controlplane.scheduling.snapshot import ClassRule, ClusterSnapshot, RequestProfile
from engine_agents.messages import ToAgent, Waiter

logger = logging.getLogger(__name__)

SNAPSHOT_LIFETIME_S = 0.02
AGING_INTERVAL_S = 1.0
EXPIRY_INTERVAL_S = 0.1
HOLDS_PER_WALK = 8
"""A walk along the queue ends after so many requests that nobody takes."""
INTERRUPTED_RANK = -1
"""Requests that lost their instance go before all classes: their clients see a pause."""
RELINK_GRACE_S = 1.0
"""So long after the last link broke new requests are still taken, to wait for a new one."""
NO_ENGINE = "No engine instance is ready to serve this model. Try again."
NO_ROOM = "no instance has room for it"

Rejected = tuple[LiveRequest, int, str]
"""A request that will not be served, HTTP status, reason for people."""


class Sender(Protocol):
    """The part of :class:`controlplane.gateway.links.Links` that routing needs."""

    def usable(self) -> frozenset[str]: ...

    def send(self, instance_id: str, message: ToAgent) -> bool: ...


class Router:
    """All calls on the event loop."""

    def __init__(self, view: FleetView, links: Sender, ledger: Ledger, journal: Journal) -> None:
        self._view, self._links, self._ledger, self._journal = view, links, ledger, journal
        self.config = SchedulingConfig.recommended()
        self.classes: Mapping[str, ClassRule] = {}
        self._queue = FairQueue()
        self._crowd = Crowd()
        self._aged_s = self._expired_s = 0.0
        self._waiting: dict[str, LiveRequest] = {}
        self._seq = 0
        self._snapshot: ClusterSnapshot | None = None
        self._reached_s = -inf
        """When an instance could be used last."""

    def __len__(self) -> int:
        """Requests that wait here."""
        return len(self._waiting)

    @property
    def binds_late(self) -> bool:
        return policies.POLICIES[self.config.policy].late_binding

    def reconfigure(self, config: SchedulingConfig, classes: Mapping[str, ClassRule]) -> None:
        if config != self.config:
            logger.info("the policy is %s now", config.policy)
        self.config, self.classes = config, classes

    def changed(self) -> None:
        """Something in the view or the links is new."""
        self._snapshot = None

    # ---------------------------------------------------------------- requests

    def place(self, live: LiveRequest, now_s: float) -> list[Rejected]:
        """Dispatch now if possible, else queue; returns it if nobody can ever take it."""
        profile = live.profile
        key_s = queueing.queue_key(profile, self.config)
        if self.binds_late:
            if self._start_at_once(live, profile, key_s, now_s):
                return []
            self._enqueue(live, profile, key_s, now_s)
            rejected = self._reject_hopeless(live, now_s)
        else:
            self._enqueue(live, profile, key_s, now_s)
            rejected = self._try_now(live, now_s)
        return rejected or self._reject_in_excess(live)

    def rehome(self, live: LiveRequest, now_s: float) -> list[Rejected]:
        """A pre-empted request that was taken back returns to the queue, at its own place."""
        profile = live.profile
        key_s = queueing.rehome_key(profile, now_s, self.config)
        if self._start_at_once(live, profile, key_s, now_s):
            return []
        self._enqueue(live, profile, key_s, now_s)
        return self._reject_hopeless(live, now_s)

    def may_rehome(self, now_s: float) -> bool:
        """Whether pre-empted requests come back here: worth it while the fleet has room elsewhere."""
        if not self.binds_late:
            return False
        snapshot = self._current_snapshot(now_s)
        if len(snapshot.instances) < 2:
            return False
        return queueing.rehomes(replace(snapshot, queue_tokens=self._queue.tokens()), self.config)

    def remove(self, live: LiveRequest) -> None:
        """It is over, or bound."""
        if self._waiting.pop(live.request_id, None) is not None:
            self._queue.remove(live.request_id)
            self._crowd.left(live)

    def ended(self, live: LiveRequest) -> None:
        """It is over: its tenant's share is settled by what it cost, and the ledger forgets it."""
        self._ledger.withdraw(live.sent_to, live.add_seq)
        self._queue.ended(live.request_id, live.new.prompt_tokens, len(live.entry.tokens))

    def give_way(self, newcomer: Caller) -> LiveRequest | None:
        """Who is shed from a full queue for a newcomer; ``None``: nobody deserves less than it does."""
        victim = self._queue.victim(newcomer.rank, newcomer.identity.tenant_slug)
        return self._waiting[victim.request.request_id] if victim is not None else None

    def refused(self, live: LiveRequest, instance_id: str, now_s: float) -> None:
        """The instance did not take it: what was noted as sent is not there."""
        self._ledger.withdraw(instance_id, live.add_seq)
        self._view.refused(instance_id, now_s)
        self.changed()

    def failed(self, instance_id: str, now_s: float) -> None:
        """Its engine ended a request by an error: others go first for a moment."""
        self._view.failed(instance_id, now_s)
        self.changed()

    def lost(self, instance_id: str) -> None:
        """Its link is gone, and with it whatever was on its way there."""
        self._ledger.forget(instance_id)
        self.changed()

    def engines_within_reach(self, now_s: float) -> bool:
        """Whether any instance can be used, or could a moment ago: links that broke are made anew at once."""
        self.note_reach(now_s)
        return now_s - self._reached_s < RELINK_GRACE_S

    def note_reach(self, now_s: float) -> None:
        """Asked at every tick: the first request after all links broke is no worse off than others."""
        if self._links.usable():
            self._reached_s = now_s

    def pump(self, now_s: float) -> list[Rejected]:
        """Walk the queue; returns what must not wait any longer."""
        rejected = self._expired(now_s) if now_s - self._expired_s >= EXPIRY_INTERVAL_S else []
        if now_s - self._aged_s >= AGING_INTERVAL_S:
            self._aged_s = now_s
            self._queue.age(now_s)
        if self.binds_late:
            self._walk(now_s)
            return rejected
        holds = 0
        for queued in list(self._queue):
            live = self._waiting[queued.request.request_id]
            rejected += self._try_now(live, now_s)
            holds += live.request_id in self._waiting
            if holds >= HOLDS_PER_WALK:
                break
        return rejected

    # ---------------------------------------------------------------- for people and for the loop

    def waiters(self, now_s: float) -> list[Waiter]:
        """What waits here, in order, and why."""
        if not self._waiting:
            return []
        snapshot, holes = self._current_snapshot(now_s), self._view.holes(now_s)
        return waiters(self._queue, self._waiting, snapshot, self._ledger, self.config, holes, now_s)

    @property
    def queue_tokens(self) -> int:
        """Demand of all that wait here."""
        return self._queue.tokens()

    def reorder(self, live: LiveRequest, now_s: float) -> None:
        """Its class has changed: it takes its new place, should it wait."""
        if live.request_id not in self._waiting:
            return
        self.remove(live)
        profile = live.profile
        self._enqueue(live, profile, queueing.queue_key(profile, self.config), now_s)

    # ---------------------------------------------------------------- inside

    def _start_at_once(self, live: LiveRequest, profile: RequestProfile, key_s: float, now_s: float) -> bool:
        """Where there is room for it as it comes, a request never stands in the queue."""
        tokens = profile.prompt_tokens + profile.generated_tokens
        entry = Queued(_rank(live), key_s, 0, profile, tokens)
        snapshot, holes = self._current_snapshot(now_s), self._view.holes(now_s)
        instance_id = queueing.place_now(entry, self._queue, snapshot, self._ledger, self.config, holes)
        if not instance_id or not self._send(live, instance_id, now_s):
            return False
        identity = live.call.caller.identity
        self._queue.bound_at_once(entry, identity.tenant_slug, identity.weight)
        return True

    def _enqueue(self, live: LiveRequest, profile: RequestProfile, key_s: float, now_s: float) -> None:
        identity = live.call.caller.identity
        self._queue.add(
            profile,
            _rank(live),
            key_s,
            tenant=identity.tenant_slug,
            weight=identity.weight,
            patience_s=live.patience_s,
        )
        self._waiting[live.request_id] = live
        self._crowd.joined(live)
        live.queued(now_s, NO_ROOM)

    def _try_now(self, live: LiveRequest, now_s: float) -> list[Rejected]:
        """Immediate binding of one waiting request."""
        snapshot = self._current_snapshot(now_s)
        decision = policies.dispatch(snapshot, self._ledger, live.profile, self.config)
        if isinstance(decision, Dispatch):
            self._bind(live, decision, now_s)
        elif isinstance(decision, Hold):
            live.why_waiting = decision.reason
        elif isinstance(decision, Reject):
            self.remove(live)
            return [(live, 400, decision.reason)]
        return []

    def _walk(self, now_s: float) -> None:
        """Late binding: whatever can start somewhere now leaves the queue."""
        snapshot = self._current_snapshot(now_s)
        holes = self._view.holes(now_s)
        for decision in queueing.next_dispatches(
            self._queue, snapshot, self._ledger, self.config, holes=holes
        ):
            self._bind(self._waiting[decision.request_id], decision, now_s)

    def _reject_hopeless(self, live: LiveRequest, now_s: float) -> list[Rejected]:
        if live.request_id not in self._waiting:
            return []
        snapshot, profile = self._current_snapshot(now_s), live.profile
        if any(not filters.for_request(each, profile, self.config) for each in snapshot.instances):
            return []
        verdict = refusal(snapshot, profile, self.config)
        live.why_waiting = verdict.reason
        if isinstance(verdict, Hold):
            return []
        self.remove(live)
        return [(live, 400, verdict.reason)]

    def _reject_in_excess(self, live: LiveRequest) -> list[Rejected]:
        """A newcomer that would wait although too many of its kind do; one that had begun may always."""
        if live.request_id not in self._waiting or live.entry.issued:
            return []
        limit = self._crowd.excess(live)
        if limit is None:
            return []
        self.remove(live)
        name = title(limit, "queued_requests")
        waiting = f"{limit.queued_requests} requests waiting for an instance"
        return [_limited(live, name, f"Limit reached: {waiting} ({name}). Try again later.")]

    def _expired(self, now_s: float) -> list[Rejected]:
        """Looks at all who wait; not at every report, of which a large fleet sends hundreds a second."""
        self._expired_s = now_s
        engines_ready = bool(self._links.usable())
        if not self.engines_within_reach(now_s):
            came_since = [live for live in self._waiting.values() if self._came_in_vain(live)]
            for live in came_since:
                self.remove(live)
            if came_since:
                return [(live, 503, NO_ENGINE) for live in came_since]
        overdue = [(live, live.give_up(now_s, engines_ready)) for live in self._waiting.values()]
        rejected = [
            _limited(live, live.queue_limit_name, reason)
            if live.give_up_status == 429
            else (live, live.give_up_status, reason)
            for live, reason in overdue
            if reason
        ]
        for live, _, _ in rejected:
            self.remove(live)
        return rejected

    def _came_in_vain(self, live: LiveRequest) -> bool:
        """It came after the last instance had gone. Those that waited before, or run, are waited with."""
        since_s = live.queued_since_s
        return live.lost_at_s is None and since_s is not None and since_s >= self._reached_s > -inf

    def _current_snapshot(self, now_s: float) -> ClusterSnapshot:
        known = self._snapshot
        if known is None or now_s - known.taken_at_s > SNAPSHOT_LIFETIME_S:
            known = self._view.snapshot(now_s, self._links.usable(), self.classes)
            self._snapshot = known
        return known

    def _bind(self, live: LiveRequest, decision: Dispatch, now_s: float) -> None:
        """A waiting request leaves; where the link takes nothing it goes on waiting."""
        if self._send(live, decision.instance_id, now_s):
            self._queue.bound(live.request_id)
            self.remove(live)

    def _send(self, live: LiveRequest, instance_id: str, now_s: float) -> bool:
        """Issue a dispatch number and send; ``False`` where the link takes nothing."""
        self._seq += 1
        dispatch = self._journal.assign(live.request_id, instance_id)
        tokens = live.new.prompt_tokens + len(live.entry.tokens)
        message = live.add_message(dispatch, self._seq, only_if_fits=self.binds_late)
        if not self._links.send(instance_id, message):
            self._journal.refused(live.entry.engine_id)
            self._view.refused(instance_id, now_s)
            self.changed()
            return False
        # Without reports (Redis is away) nothing else would take back what it was sent before.
        self._ledger.withdraw(live.sent_to, live.add_seq)
        self._ledger.sent(instance_id, self._seq, tokens)
        live.bound(now_s, instance_id, self._seq)
        live.call.served_by = instance_id
        return True


def _limited(live: LiveRequest, limit_name: str, reason: str) -> Rejected:
    live.call.refusal = LimitError(429, LIMITED, reason, limit_name)
    return (live, 429, reason)


def _rank(live: LiveRequest) -> int:
    return INTERRUPTED_RANK if live.lost_at_s is not None else live.call.caller.rank
