"""From a request to an instance: the policy core on the gateway's view, and a queue for what must wait.

The router decides nothing itself: :func:`controlplane.scheduling.policies.dispatch`
does. It binds, sends and keeps the ledger of what was sent since each report.
"""

from __future__ import annotations

import logging
from bisect import insort
from collections.abc import Mapping
from typing import Protocol

from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.journal import Journal
from controlplane.gateway.live_requests import LiveRequest
from controlplane.scheduling import policies
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Hold, Reject
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.snapshot import ClassRule, ClusterSnapshot
from engine_agents.messages import ToAgent

logger = logging.getLogger(__name__)

SNAPSHOT_LIFETIME_S = 0.02
HOLDS_PER_WALK = 8
"""A walk along the queue ends after so many requests that fit nowhere."""

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
        self.config = SchedulingConfig()
        self.classes: Mapping[str, ClassRule] = {}
        self._queue: list[LiveRequest] = []
        self._seq = 0
        self._snapshot: ClusterSnapshot | None = None

    def __len__(self) -> int:
        """Requests that wait here."""
        return len(self._queue)

    def reconfigure(self, config: SchedulingConfig, classes: Mapping[str, ClassRule]) -> None:
        if config != self.config:
            logger.info("the policy is %s now", config.policy)
        self.config, self.classes = config, classes

    def changed(self) -> None:
        """Something in the view or the links is new."""
        self._snapshot = None

    def place(self, live: LiveRequest, now_s: float) -> list[Rejected]:
        """Dispatch now if possible, else queue; returns it if nobody can ever take it."""
        decision = self._decide(live, now_s)
        if isinstance(decision, Dispatch) and self._bind(live, decision, now_s):
            return []
        if isinstance(decision, Reject):
            return [(live, 400, decision.reason)]
        live.queued(now_s, decision.reason if isinstance(decision, Hold) else "its connection is full")
        insort(self._queue, live, key=lambda waiting: waiting.order)
        return []

    def remove(self, live: LiveRequest) -> None:
        """It is over before it was dispatched."""
        if live in self._queue:
            self._queue.remove(live)

    def pump(self, now_s: float) -> list[Rejected]:
        """Walk the queue; returns what must not wait any longer."""
        rejected: list[Rejected] = []
        holds = 0
        engines_ready = bool(self._links.usable())
        for live in list(self._queue):
            why = live.give_up(now_s, engines_ready)
            if why:
                rejected.append((live, 503, why))
                continue
            if holds >= HOLDS_PER_WALK:
                continue
            decision = self._decide(live, now_s)
            if isinstance(decision, Reject):
                rejected.append((live, 400, decision.reason))
            elif isinstance(decision, Dispatch) and self._bind(live, decision, now_s):
                self._queue.remove(live)
            else:
                holds += 1
        for live, _, _ in rejected:
            self._queue.remove(live)
        return rejected

    def refused(self, live: LiveRequest, instance_id: str, now_s: float) -> None:
        """The instance did not take it: what was noted as sent is not there."""
        self._ledger.withdraw(instance_id, live.add_seq)
        self._view.refused(instance_id, now_s)
        self.changed()

    def _decide(self, live: LiveRequest, now_s: float) -> Dispatch | Hold | Reject:
        return policies.dispatch(self._current_snapshot(now_s), self._ledger, live.profile, self.config)

    def _current_snapshot(self, now_s: float) -> ClusterSnapshot:
        known = self._snapshot
        if known is None or now_s - known.taken_at_s > SNAPSHOT_LIFETIME_S:
            known = self._view.snapshot(now_s, self._links.usable(), self.classes)
            self._snapshot = known
        return known

    def _bind(self, live: LiveRequest, decision: Dispatch, now_s: float) -> bool:
        """Issue a dispatch number and send; ``False``, and nothing changed, when the link takes nothing."""
        self._seq += 1
        instance_id = decision.instance_id
        dispatch = self._journal.assign(live.request_id, instance_id)
        profile = live.profile
        if not self._links.send(instance_id, live.add_message(dispatch, self._seq)):
            self._journal.refused(live.entry.engine_id)
            self._view.refused(instance_id, now_s)
            self.changed()
            return False
        self._ledger.sent(instance_id, self._seq, profile.prompt_tokens + profile.generated_tokens)
        live.bound(now_s, self._seq)
        return True
