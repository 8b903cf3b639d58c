"""The gateway between vLLM's front half and the agents: it holds the parts together, and decides nothing.

Messages of agents go to the journal; what follows from them (outputs to deliver,
aborts, recoveries, ends) is carried out here. All calls on the event loop.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from controlplane.gateway.commands import as_class
from controlplane.gateway.entries import AbortAt, Effects, Finished, Recover
from controlplane.gateway.fleet_view import FleetView
from controlplane.gateway.journal import Journal
from controlplane.gateway.latency import LatencyWindow
from controlplane.gateway.links import Links
from controlplane.gateway.live_requests import LiveRequest, current_call
from controlplane.gateway.recovery import GiveUp, Recovery
from controlplane.gateway.routing import NO_ENGINE, Rejected, Router
from controlplane.records.types import FinishedRequest
from engine_agents.messages import (
    Adopted,
    AskMove,
    AskOwner,
    Heartbeat,
    Owner,
    Preempted,
    Ready,
    Refused,
    SetRank,
    Step,
    ToGateway,
    split_engine_id,
)
from engine_agents.vllm_engine.frontend_port import AdmissionRefusedError, FrontHalf, NewRequest

logger = logging.getLogger(__name__)

MAX_QUEUED = 2_000
MAX_OPEN = 12_000
FULL = "This gateway is full: too many requests wait or run. Try again."
SHED = "The fleet is overloaded, and this request gave way to one of a higher class or of another tenant."


class Gateway:
    """Implements ``EngineClientPort`` for the front half and ``LinkOwner`` for the links."""

    front: FrontHalf
    links: Links
    router: Router
    """The three are set by the composition root, since each needs the gateway first."""

    def __init__(
        self,
        *,
        model: str,
        journal: Journal,
        view: FleetView,
        clock: Callable[[], float],
        record: Callable[[FinishedRequest], None],
    ) -> None:
        self._model, self.journal, self._view = model, journal, view
        self._clock, self._record = clock, record
        self._lives: dict[str, LiveRequest] = {}
        self.latency = LatencyWindow()
        self.recovery = Recovery()
        self.counters: Counter[str] = Counter()

    # ---------------------------------------------------------------- from the front half

    def check_admission(self, count: int) -> None:
        if not self.router.engines_within_reach(self._clock()):
            raise AdmissionRefusedError(503, NO_ENGINE)
        if len(self._lives) + count > MAX_OPEN:
            raise AdmissionRefusedError(503, FULL)
        while len(self.router) + count > MAX_QUEUED:
            self._shed()

    def _shed(self) -> None:
        """Overload: the lowest class gives way first, in it the tenant that has had and wants the most."""
        call = current_call.get(None)
        victim = self.router.give_way(call.caller) if call is not None else None
        if victim is None:
            raise AdmissionRefusedError(503, FULL)
        self.counters["shed"] += 1
        self._fail(victim, GiveUp(503, SHED))

    def add(self, request: NewRequest) -> None:
        entry = self.journal.open(request.request_id, gap_closable=request.gap_closable)
        call = current_call.get()
        call.reached_engine = True
        live = LiveRequest(request, call, entry)
        self._lives[request.request_id] = live
        self._reject(self.router.place(live, self._clock()))

    def abort(self, request_ids: Sequence[str]) -> None:
        self._end(request_ids, "abort")

    def stopped(self, request_ids: Sequence[str]) -> None:
        self._end(request_ids, "stop")

    def _end(self, request_ids: Sequence[str], outcome: str) -> None:
        effects = Effects()
        for request_id in request_ids:
            live = self._lives.pop(request_id, None)
            if live is not None:
                self.router.remove(live)
                effects.actions.extend(self.journal.close(request_id)[1].actions)
                self._note_end(live, outcome)
        self._carry_out(effects)

    # ---------------------------------------------------------------- from the links

    def link_ready(self, instance_id: str, ready: Ready) -> None:
        self.router.changed()
        self._pump()

    def link_lost(self, instance_id: str, reason: str) -> None:
        self.router.lost(instance_id)
        self._carry_out(self.journal.instance_lost(instance_id, self._clock()))

    def link_message(self, instance_id: str, message: ToGateway) -> None:
        match message:
            case Step():
                outputs = self.front.decode(message.outputs)
                self._carry_out(self.journal.step(instance_id, message.engine_ids, message.starts, outputs))
            case Refused():
                self._refused(instance_id, message)
            case AskMove():
                grant = self.journal.ask_move(
                    instance_id, message.migration_id, message.engine_id, message.destination_instance_id
                )
                self.links.send(instance_id, grant)
            case Adopted():
                effects = self.journal.adopted(
                    instance_id, message.engine_id, message.start, message.output_token_ids, self._clock()
                )
                self._carry_out(effects)
            case Preempted():
                self._preempted(message)
            case AskOwner():
                self._judge(instance_id, message)
            case Heartbeat():
                self._view.heard(instance_id, message.room_tokens, message.seen_seq)

    def _preempted(self, message: Preempted) -> None:
        """Its cache is lost anyway: where the policy says so, it may start wherever there is room."""
        self.counters["preempted"] += 1
        now_s = self._clock()
        live = self._lives.get(split_engine_id(message.engine_id)[0])
        if live is None or not self.router.may_rehome(now_s):
            return
        effects = self.journal.take_back(message.engine_id)
        if effects is not None:
            self.counters["rehomed"] += 1
            self._carry_out(effects)
            self._reject(self.router.rehome(live, now_s))

    def _judge(self, instance_id: str, message: AskOwner) -> None:
        dispatch, effects = self.journal.ask_owner(message.request_id)
        self._carry_out(effects)
        verdict = Owner(migration_id=message.migration_id, request_id=message.request_id, dispatch=dispatch)
        self.links.send(instance_id, verdict)

    def _refused(self, instance_id: str, message: Refused) -> None:
        entry = self.journal.refused(message.engine_id)
        live = self._lives.get(split_engine_id(message.engine_id)[0])
        if entry is None or live is None:
            return
        self.counters["refused"] += 1
        now_s = self._clock()
        self.router.refused(live, instance_id, now_s)
        give_up = self.recovery.after_refusal(live, message.reason)
        if give_up is not None:
            self._fail(live, give_up)
        else:
            self._reject(self.router.place(live, now_s))

    # ---------------------------------------------------------------- what follows

    def _carry_out(self, effects: Effects) -> None:
        if effects.deliver:
            self._deliver(effects.deliver)
        if not effects.actions:
            return
        aborts: dict[str, list[str]] = {}
        for action in effects.actions:
            match action:
                case AbortAt(instance_id, engine_id):
                    aborts.setdefault(instance_id, []).append(engine_id)
                case Recover(request_id, reason, failed_at):
                    if failed_at:
                        self.router.failed(failed_at, self._clock())
                    self._recover(request_id, reason)
                case Finished(entry, outcome):
                    live = self._lives.pop(entry.request_id, None)
                    if live is not None:
                        self._note_end(live, outcome)
        for instance_id, engine_ids in aborts.items():
            self.links.abort(instance_id, engine_ids)

    def _deliver(self, outputs: list[object]) -> None:
        now_s = self._clock()
        for output in outputs:
            live = self._lives.get(output.request_id)  # type: ignore[attr-defined]
            if live is not None and live.first_token_s is None:
                live.first_token_s = now_s
                live.note_prefill(getattr(output, "prefill_stats", None))
        self.front.deliver(outputs)

    def _recover(self, request_id: str, reason: str) -> None:
        live = self._lives.get(request_id)
        if live is None:
            return
        now_s = self._clock()
        logger.info("request %s is recovered with %d tokens: %s", request_id, len(live.entry.tokens), reason)
        give_up = self.recovery.begin(live, now_s)
        if give_up is not None:
            self._fail(live, give_up)
        else:
            self._reject(self.router.place(live, now_s))

    def _reject(self, rejected: list[Rejected]) -> None:
        for live, status, reason in rejected:
            self._fail(live, GiveUp(status, reason))

    def _fail(self, live: LiveRequest, give_up: GiveUp) -> None:
        """The client gets a typed error; whoever may still run the request is told to stop."""
        if self._lives.pop(live.request_id, None) is None:
            return
        self.router.remove(live)
        effects = self.journal.close(live.request_id)[1]
        self._note_end(live, f"error:{give_up.status}")
        logger.warning("request %s fails: %s", live.request_id, give_up.message)
        self.front.fail(live.request_id, give_up.status, give_up.message)
        self._carry_out(effects)

    def _note_end(self, live: LiveRequest, outcome: str) -> None:
        now_s = self._clock()
        finished = live.finished(now_s, outcome, self._model)
        self.counters[f"ended_{outcome}"] += 1
        self.router.ended(live)
        if live.call.ticket is not None:
            live.call.ticket.note_tokens(finished.prompt_tokens, finished.output_tokens)
        if outcome != "abort":
            self.latency.add(now_s, finished.slo_class_served, finished.ttft_ms, finished.tpot_ms)
        self._record(finished)

    # ---------------------------------------------------------------- time

    def tick(self) -> None:
        """Every 50 ms or so: moves whose time is up, waiting requests, links to make."""
        now_s = self._clock()
        self.router.note_reach(now_s)
        self.links.connect_due()
        self._carry_out(self.journal.tick(now_s))
        self._pump()

    def view_changed(self) -> None:
        """New reports: the fleet may have another shape, and room."""
        now_s = self._clock()
        self.links.follow(self._view.targets(now_s))
        self.router.changed()
        self._pump()

    def _pump(self) -> None:
        if len(self.router):
            self._reject(self.router.pump(self._clock()))

    # ---------------------------------------------------------------- from operators

    def matching(self, chosen: Callable[[LiveRequest], bool]) -> list[LiveRequest]:
        return [live for live in self._lives.values() if chosen(live)]

    def knows_class(self, slo_class: str) -> bool:
        return slo_class in self.router.classes

    def end(self, live: LiveRequest, give_up: GiveUp) -> None:
        self._fail(live, give_up)

    def serve_as(self, live: LiveRequest, slo_class: str) -> None:
        """Its urgency changes where it is: in the queue, or on its instance from the next step on."""
        rank = self.router.classes[slo_class].rank
        as_class(live, slo_class, rank)
        now_s = self._clock()
        entry = live.entry
        if entry.owner:
            change = SetRank(engine_ids=[entry.engine_id], rank=rank, slo_class=slo_class)
            self.links.send(entry.owner_id, change)
        else:
            self.router.reorder(live, now_s)
            self._pump()

    # ---------------------------------------------------------------- for reports

    @property
    def open_requests(self) -> int:
        return len(self._lives)

    def open_by_class(self) -> Counter[str]:
        return Counter(live.call.caller.slo_class for live in self._lives.values())

    def abort_all(self) -> None:
        """The process ends: nobody reads these any more."""
        self.abort(list(self._lives))
