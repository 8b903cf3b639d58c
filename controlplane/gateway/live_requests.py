"""One live request, as the gateway's own side sees it: whose it is, when what happened."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controlplane.gateway.admission import Caller, Ticket
from controlplane.gateway.entries import Entry
from controlplane.gateway.errors import ApiError
from controlplane.gateway.limits.terms import queue_limit_s, title
from controlplane.records.types import FinishedRequest
from controlplane.scheduling.snapshot import RequestProfile
from engine_agents.messages import Add
from engine_agents.vllm_engine.frontend_port import NewRequest

QUEUE_TARGETS = 20
"""A request waits patiently for so many times its class's TTFT target …"""
PATIENCE_LEAST_S, PATIENCE_MOST_S = 5.0, 300.0
"""… but at least and at most so long; half of it makes the request older than its class."""
QUEUE_LIMIT_LEAST_S = 120.0
"""Nobody is turned away from the queue before, unless a limit of its tenant or key says so."""
RECOVERY_ATTEMPTS = 5
RECOVERY_LIMIT_S = 30.0
"""A request that lost its instance waits so long for another one."""
RECOVERY_LIMIT_EMPTY_S = 60.0
"""The same while no instance at all is there: an engine that is started again needs half a minute."""


@dataclass(slots=True)
class Call:
    """One HTTP request of a client; it may become several requests for engines."""

    http_id: str
    caller: Caller
    arrived_s: float
    """Monotonic."""
    arrived_at: datetime
    ticket: Ticket | None = None
    """What it was let in on; ``None`` where nobody keeps the gate."""
    served_by: str = ""
    """The instance that it was sent to last; of several requests, any of theirs."""
    refusal: ApiError | None = None
    """What its client is told when a limit ended its wait in the queue."""
    reached_engine: bool = False
    """Something was made for engines of it: what fails from then on is not the body's fault."""

    def moment(self, at_s: float) -> datetime:
        """A monotonic time on the wall clock."""
        return self.arrived_at + timedelta(seconds=at_s - self.arrived_s)


current_call: ContextVar[Call] = ContextVar("current_call")
"""Set by the door around vLLM's app, read where the app hands a request to the gateway."""


@dataclass(slots=True, eq=False)
class LiveRequest:
    """From the front half's hand-over to the last token."""

    new: NewRequest
    call: Call
    entry: Entry
    queued_since_s: float | None = None
    queued_s: float = 0.0
    lost_at_s: float | None = None
    """Since when nobody runs it although somebody did."""
    why_waiting: str = ""
    first_token_s: float | None = None
    sent_to: str = ""
    """Where the newest Add went, and …"""
    add_seq: int = 0
    """… under which number: for the ledger."""
    refusals: int = 0
    cached_tokens: int = 0
    """Of the prompt's, as its first engine said."""

    @property
    def request_id(self) -> str:
        return self.new.request_id

    @property
    def profile(self) -> RequestProfile:
        return RequestProfile(
            request_id=self.request_id,
            slo_class=self.call.caller.slo_class,
            prompt_tokens=self.new.prompt_tokens,
            arrived_at_s=self.call.arrived_s,
            generated_tokens=len(self.entry.tokens),
        )

    def note_prefill(self, stats: Any) -> None:
        """What the engine says of the prompt with the first output (vLLM's ``PrefillStats``), if anything."""
        self.cached_tokens = max(0, int(getattr(stats, "num_cached_tokens", 0) or 0))

    def queued(self, now_s: float, reason: str) -> None:
        self.why_waiting = reason
        if self.queued_since_s is None:
            self.queued_since_s = now_s

    def bound(self, now_s: float, instance_id: str, seq: int) -> None:
        if self.queued_since_s is not None:
            self.queued_s += now_s - self.queued_since_s
            self.queued_since_s = None
        self.lost_at_s = None
        self.sent_to, self.add_seq = instance_id, seq

    def give_up(self, now_s: float, engines_ready: bool) -> str:
        """Why it must not wait any longer; empty while it may."""
        if self.entry.recoveries > RECOVERY_ATTEMPTS:
            return f"{self.entry.recoveries} instances failed under this request"
        if self.lost_at_s is not None:
            limit_s = RECOVERY_LIMIT_S if engines_ready else RECOVERY_LIMIT_EMPTY_S
            waited_s = now_s - self.lost_at_s
            return (
                f"its instance was lost and no other took it within {limit_s:.0f} s"
                if waited_s > limit_s
                else ""
            )
        if self.queued_since_s is not None and now_s - self.queued_since_s > self.queue_limit_s:
            return f"no instance could take it within {self.queue_limit_s:.0f} s ({self.why_waiting})"
        return ""

    @property
    def give_up_status(self) -> int:
        """429 where it is a limit of its tenant, key or class that lets it wait no longer, else 503."""
        waits = self.lost_at_s is None and self.queued_since_s is not None
        return 429 if waits and self.queue_limit_s < self._class_limit_s else 503

    @property
    def queue_limit_s(self) -> float:
        """The shortest of what its limits allow, and what its class may wait at most."""
        return queue_limit_s(self.call.caller.limits, self._class_limit_s)

    @property
    def queue_limit_name(self) -> str:
        """The limit that lets it wait the least; empty where none says how long."""
        limits = [each for each in self.call.caller.limits if each.queue_seconds is not None]
        if not limits:
            return ""
        return title(min(limits, key=lambda each: each.queue_seconds or 0.0), "queue_seconds")

    @property
    def _class_limit_s(self) -> float:
        return max(self._worth_waiting_s, QUEUE_LIMIT_LEAST_S)

    @property
    def patience_s(self) -> float:
        """How long it waits before it is looked at as if it were of a higher class, doubled."""
        return min(self.queue_limit_s, self._worth_waiting_s)

    @property
    def _worth_waiting_s(self) -> float:
        caller = self.call.caller
        rule = caller.identity.class_rules.get(caller.slo_class)
        target_ms = rule.ttft_target_ms if rule is not None else None
        if target_ms is None:
            return PATIENCE_MOST_S
        return min(PATIENCE_MOST_S, max(PATIENCE_LEAST_S, QUEUE_TARGETS * target_ms / 1000))

    def add_message(self, dispatch: int, seq: int, *, only_if_fits: bool) -> Add:
        caller = self.call.caller
        return Add(
            request_id=self.request_id,
            dispatch=dispatch,
            seq=seq,
            engine_request=self.new.engine_request,
            prior_token_ids=self.entry.tokens,
            slo_class=caller.slo_class,
            tenant=caller.identity.tenant_slug,
            rank=caller.rank,
            prompt_tokens=self.new.prompt_tokens,
            only_if_fits=only_if_fits,
        )

    def finished(self, now_s: float, outcome: str, model: str) -> FinishedRequest:
        """The record of it; no text, no tokens."""
        call, entry = self.call, self.entry
        waiting_s = now_s - self.queued_since_s if self.queued_since_s is not None else 0.0
        waiting_s += call.ticket.waited_s if call.ticket is not None else 0.0

        first_s = self.first_token_s
        return FinishedRequest(
            request_id=self.request_id,
            tenant_id=call.caller.identity.tenant_id,
            key_id=call.caller.identity.key_id,
            slo_class_asked=call.caller.asked_class,
            slo_class_served=call.caller.slo_class,
            class_rule=call.caller.rule,
            model=model,
            arrived_at=call.arrived_at,
            first_token_at=None if first_s is None else call.moment(first_s),
            finished_at=call.moment(now_s),
            prompt_tokens=self.new.prompt_tokens,
            output_tokens=len(entry.tokens),
            instance_ids=tuple(entry.instances),
            dispatches=entry.issued,
            moves=entry.moves,
            recoveries=entry.recoveries,
            outcome=outcome,
            queued_ms=(self.queued_s + waiting_s) * 1000,
            cached_tokens=self.cached_tokens,
        )
