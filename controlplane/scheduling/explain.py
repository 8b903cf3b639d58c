"""Why was this decided? Rendered on demand from the snapshot, so that it costs nothing before.

An explanation is plain data: the rule, every candidate with its numbers, those that
fell and the filter that dropped them, the margin of the winner, and what would have
changed the decision. It asks the same functions that decided; it holds no rule of its
own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from controlplane.scheduling import filters, placement, policies, rescheduling, scaling
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import (
    Decision,
    Dispatch,
    Drain,
    Hold,
    Hole,
    Migrate,
    Reject,
    ScaleDown,
    ScaleUp,
    Undrain,
)
from controlplane.scheduling.ledger import NO_LEDGER, Ledger
from controlplane.scheduling.load import Classes, freeness, headroom_tokens, rank_of
from controlplane.scheduling.snapshot import ClusterSnapshot, InstanceSnapshot, RequestProfile


@dataclass(frozen=True, slots=True)
class CandidateNumbers:
    """One instance as the decision saw it."""

    instance_id: str
    role: str
    """``chosen``, ``candidate``, ``source`` or ``dropped``"""
    score: float | None
    freeness_tokens: float | None
    """``None`` stands for minus infinity: the instance drains."""
    used_tokens: int
    reserved_tokens: int
    headroom_tokens: int
    running: int
    waiting: int
    reason: str = ""
    """The filter that dropped it."""


@dataclass(frozen=True, slots=True)
class Explanation:
    rule: str
    sentence: str
    candidates: tuple[CandidateNumbers, ...] = ()
    margin: float | None = None
    """Score of the chosen instance minus that of the next best; ``None`` without a rival."""
    would_change: str = ""
    numbers: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON types only)."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Case:
    """What the decision was taken on."""

    snapshot: ClusterSnapshot
    config: SchedulingConfig
    request: RequestProfile
    ledger: Ledger
    holes: Mapping[str, str]
    reserve_tokens: float

    @property
    def classes(self) -> Classes:
        """The classes whose headroom counts in this policy's freeness."""
        return self.snapshot.classes if policies.POLICIES[self.config.policy].priorities else {}


def explain(
    snapshot: ClusterSnapshot,
    decision: Decision,
    config: SchedulingConfig,
    *,
    request: RequestProfile | None = None,
    ledger: Ledger = NO_LEDGER,
    holes: Mapping[str, str] | None = None,
    reserve_tokens: float = 0.0,
) -> Explanation:
    """Render why ``decision`` followed from ``snapshot``.

    What concerns one request also needs its profile, the ledger and (late binding) the holes
    and the reserve (``queueing.reserve_tokens``) of that moment; without them the numbers
    shown are those of an empty ledger while no pre-empted request waits.
    """
    profile = request or RequestProfile(getattr(decision, "request_id", ""), "", 0, snapshot.taken_at_s)
    case = _Case(snapshot, config, profile, ledger, holes or {}, reserve_tokens)
    if isinstance(decision, Migrate):
        return _migrate(case, decision)
    if isinstance(decision, Dispatch | Hold | Reject):
        return _placement(case, decision)
    if isinstance(decision, Hole):
        return _hole(case, decision)
    return _scaling(case, decision)


def _numbers(
    case: _Case, instance: InstanceSnapshot, role: str, score: float | None, reason: str = ""
) -> CandidateNumbers:
    classes = case.classes
    return CandidateNumbers(
        instance_id=instance.instance_id,
        role=role,
        score=score,
        freeness_tokens=None if instance.draining else freeness(instance, classes),
        used_tokens=instance.used_tokens,
        reserved_tokens=instance.reserved_tokens,
        headroom_tokens=headroom_tokens(instance, classes),
        running=instance.running,
        waiting=instance.waiting,
        reason=reason,
    )


def _margin(rows: list[CandidateNumbers]) -> float | None:
    chosen = [row.score for row in rows if row.role == "chosen" and row.score is not None]
    rivals = [row.score for row in rows if row.role == "candidate" and row.score is not None]
    return chosen[0] - max(rivals) if chosen and rivals else None


def _role(instance: InstanceSnapshot, chosen_id: str, reason: str) -> str:
    if instance.instance_id == chosen_id:
        return "chosen"
    return "dropped" if reason else "candidate"


# --------------------------------------------------------------------------- where a request goes


def _placement(case: _Case, decision: Dispatch | Hold | Reject) -> Explanation:
    policy = policies.POLICIES[case.config.policy]
    rows = _late_rows(case, decision) if policy.late_binding else _immediate_rows(case, decision)
    margin = _margin(rows)
    if isinstance(decision, Dispatch):
        sentence = f"{decision.request_id} goes to {decision.instance_id}: {policy.summary}"
        change = (
            "Nothing: it was the only candidate."
            if margin is None
            else f"A score lower by more than {margin:.1f} here, or as much higher at the next best."
        )
        return Explanation(decision.rule, sentence, tuple(rows), margin, change)
    name = "hold" if isinstance(decision, Hold) else "reject"
    change = "An instance for which none of the reasons holds."
    return Explanation(name, decision.reason, tuple(rows), None, change)


def _chosen_id(decision: Dispatch | Hold | Reject) -> str:
    return decision.instance_id if isinstance(decision, Dispatch) else ""


def _immediate_rows(case: _Case, decision: Dispatch | Hold | Reject) -> list[CandidateNumbers]:
    rows = []
    for instance in case.snapshot.instances:
        reason = filters.for_request(instance, case.request, case.config)
        score = None
        if not reason:
            score = policies.score_of(case.snapshot, case.ledger, case.request, case.config, instance)
        rows.append(_numbers(case, instance, _role(instance, _chosen_id(decision), reason), score, reason))
    return rows


def _late_rows(case: _Case, decision: Dispatch | Hold | Reject) -> list[CandidateNumbers]:
    classes, request = case.snapshot.classes, case.request
    rank = rank_of(request.slo_class, classes)
    tokens = request.prompt_tokens + request.generated_tokens
    entry = placement.Queued(rank, 0.0, 0, request, tokens)
    rows = []
    for desk in placement.desks(case.snapshot.instances, case.ledger, case.config, case.reserve_tokens):
        reason = placement.refusal(desk, entry, case.config, classes, case.holes)
        role = _role(desk.instance, _chosen_id(decision), reason)
        rows.append(_numbers(case, desk.instance, role, _late_score(case, desk, entry), reason))
    return rows


def _late_score(case: _Case, desk: placement.Desk, entry: placement.Queued) -> float:
    """One number that orders as the value does: room until there is enough, calm beyond it."""
    value = placement.value_of(desk, entry, case.config, case.snapshot.classes)
    enough = case.config.queue.enough_tokens
    return enough + value[1] if value[0] == enough else value[0]


def _hole(case: _Case, decision: Hole) -> Explanation:
    rows = []
    for desk in placement.desks(case.snapshot.instances, case.ledger, case.config):
        reason = filters.for_request(desk.instance, case.request, case.config)
        score = -placement.deficit(desk, decision.tokens)
        rows.append(
            _numbers(case, desk.instance, _role(desk.instance, decision.instance_id, reason), score, reason)
        )
    waited = case.config.queue.hole_after_s
    return Explanation(
        rule="hole",
        sentence=f"{decision.instance_id} is kept free for {decision.request_id}, which needs "
        f"{decision.tokens} tokens and has waited more than {waited:g} s: smallest deficit.",
        candidates=tuple(rows),
        margin=_margin(rows),
        would_change=f"Room for {decision.tokens} tokens on any instance.",
        numbers={"hole_after_s": waited, "tokens": float(decision.tokens)},
    )


# --------------------------------------------------------------------------- who hands work to whom


def _migrate(case: _Case, decision: Migrate) -> Explanation:
    rules = case.config.rescheduling
    rows = []
    for instance in case.snapshot.instances:
        value = freeness(instance, case.classes)
        reason = rescheduling.destination_reason(instance, value, case.ledger, case.config)
        role = _role(instance, decision.destination_id, reason)
        if instance.instance_id == decision.source_id:
            role, reason = "source", ""
        rows.append(_numbers(case, instance, role, None if instance.draining else value, reason))
    requests = "request" if decision.max_requests == 1 else "requests"
    return Explanation(
        rule=decision.rule,
        sentence=f"{decision.source_id} hands work to {decision.destination_id} ({decision.rule}): "
        f"up to {decision.max_requests} {requests} and {decision.budget_tokens} tokens, "
        f"{decision.order} first.",
        candidates=tuple(rows),
        margin=_margin(rows),
        would_change=_other_source(case, decision),
        numbers={
            "source_threshold_tokens": rules.source_threshold_tokens,
            "destination_threshold_tokens": rules.destination_threshold_tokens,
            "budget_tokens": float(decision.budget_tokens),
        },
    )


def _other_source(case: _Case, decision: Migrate) -> str:
    if decision.rule == "drain":
        return "Undraining the source."
    if decision.rule == "preempted":
        return "Memory at the source for the request it had to pre-empt."
    if decision.rule == "headroom":
        return "A load at the source within the target of the class that it hosts."
    if decision.rule == "hole":
        return f"{decision.need_tokens} tokens more of free memory at the source."
    source = next(i for i in case.snapshot.instances if i.instance_id == decision.source_id)
    threshold = rescheduling.effective_threshold(case.config.rescheduling.source_threshold_tokens, source)
    missing = threshold - freeness(source, case.classes)
    return f"{missing:.0f} tokens more of freeness at the source (threshold {threshold:.0f} per request)."


# --------------------------------------------------------------------------- how large the fleet is


def _scaling(case: _Case, decision: Drain | Undrain | ScaleUp | ScaleDown) -> Explanation:
    rules = case.config.scaling
    active = [each for each in case.snapshot.instances if not each.draining]
    value = scaling.mean_freeness(case.snapshot, active)
    victim = getattr(decision, "instance_id", "")
    rows = [
        _numbers(case, each, _role(each, victim, ""), -float(each.running))
        for each in case.snapshot.instances
    ]
    names = {Drain: "drain", Undrain: "undrain", ScaleUp: "scale_up", ScaleDown: "scale_down"}
    grows = isinstance(decision, ScaleUp | Undrain)
    mark = rules.low_freeness_tokens if grows else rules.high_freeness_tokens
    return Explanation(
        rule=names[type(decision)],
        sentence=decision.reason,
        candidates=tuple(rows),
        would_change=f"A mean freeness {'above' if grows else 'below'} {mark:.0f} tokens per request.",
        numbers={
            "mean_freeness_tokens": value if active else 0.0,
            "low_freeness_tokens": rules.low_freeness_tokens,
            "high_freeness_tokens": rules.high_freeness_tokens,
            "active_instances": float(len(active)),
            "starting_instances": float(case.snapshot.starting),
        },
    )
