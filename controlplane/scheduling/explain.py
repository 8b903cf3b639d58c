"""Why was this decided? Rendered on demand from the snapshot, so that it costs nothing before.

An explanation is plain data: the rule, every candidate with its numbers, those that
fell and the filter that dropped them, the margin of the winner, and what would have
changed the decision.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from controlplane.scheduling import filters, policies, rescheduling
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Decision, Dispatch, Migrate
from controlplane.scheduling.ledger import NO_LEDGER, Ledger
from controlplane.scheduling.load import freeness, headroom_tokens
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


def explain(
    snapshot: ClusterSnapshot,
    decision: Decision,
    config: SchedulingConfig,
    *,
    request: RequestProfile | None = None,
    ledger: Ledger = NO_LEDGER,
) -> Explanation:
    """Render why ``decision`` followed from ``snapshot``; a dispatch also needs its ``request``."""
    if isinstance(decision, Migrate):
        return _explain_migrate(snapshot, decision, config, ledger)
    if isinstance(decision, Dispatch):
        return _explain_dispatch(snapshot, decision, config, request, ledger)
    return Explanation(rule=type(decision).__name__.lower(), sentence=getattr(decision, "reason", ""))


def _numbers(
    snapshot: ClusterSnapshot, instance: InstanceSnapshot, role: str, score: float | None, reason: str
) -> CandidateNumbers:
    return CandidateNumbers(
        instance_id=instance.instance_id,
        role=role,
        score=score,
        freeness_tokens=None if instance.draining else freeness(instance, snapshot.classes),
        used_tokens=instance.used_tokens,
        reserved_tokens=instance.reserved_tokens,
        headroom_tokens=headroom_tokens(instance, snapshot.classes),
        running=instance.running,
        waiting=instance.waiting,
        reason=reason,
    )


def _margin(rows: list[CandidateNumbers]) -> float | None:
    chosen = [row.score for row in rows if row.role == "chosen" and row.score is not None]
    rivals = [row.score for row in rows if row.role == "candidate" and row.score is not None]
    return chosen[0] - max(rivals) if chosen and rivals else None


def _explain_migrate(
    snapshot: ClusterSnapshot, decision: Migrate, config: SchedulingConfig, ledger: Ledger
) -> Explanation:
    rows = []
    for instance in snapshot.instances:
        value = freeness(instance, snapshot.classes)
        reason = rescheduling.destination_reason(instance, value, ledger, config)
        role = "dropped" if reason else "candidate"
        if instance.instance_id == decision.source_id:
            role, reason = "source", ""
        elif instance.instance_id == decision.destination_id:
            role = "chosen"
        rows.append(_numbers(snapshot, instance, role, None if instance.draining else value, reason))
    threshold = config.rescheduling.source_threshold_tokens
    return Explanation(
        rule=decision.rule,
        sentence=f"{decision.source_id} hands work to {decision.destination_id} ({decision.rule}), "
        f"up to {decision.max_requests} requests and {decision.budget_tokens} tokens.",
        candidates=tuple(rows),
        margin=_margin(rows),
        would_change=_change_for(decision, rows, threshold),
        numbers={
            "source_threshold_tokens": threshold,
            "destination_threshold_tokens": config.rescheduling.destination_threshold_tokens,
        },
    )


def _change_for(decision: Migrate, rows: list[CandidateNumbers], threshold: float) -> str:
    if decision.rule == "drain":
        return "Undraining the source."
    if decision.rule == "preempted":
        return "Memory at the source for the request it had to pre-empt."
    value = next((row.freeness_tokens for row in rows if row.role == "source"), None)
    missing = threshold - value if value is not None else 0.0
    return f"{missing:.0f} tokens more of freeness at the source (threshold {threshold:.0f} per request)."


def _explain_dispatch(
    snapshot: ClusterSnapshot,
    decision: Dispatch,
    config: SchedulingConfig,
    request: RequestProfile | None,
    ledger: Ledger,
) -> Explanation:
    profile = request or RequestProfile(decision.request_id, "", 0, snapshot.taken_at_s)
    rows = []
    for instance in snapshot.instances:
        reason = filters.for_request(instance, profile, config)
        role = "dropped" if reason else "candidate"
        if instance.instance_id == decision.instance_id:
            role = "chosen"
        score = None if reason else policies.score_of(snapshot, ledger, profile, config, instance)
        rows.append(_numbers(snapshot, instance, role, score, reason))
    margin = _margin(rows)
    return Explanation(
        rule=decision.rule,
        sentence=f"{decision.request_id} goes to {decision.instance_id}: "
        f"{policies.POLICIES[config.policy].summary}",
        candidates=tuple(rows),
        margin=margin,
        would_change="Nothing: it was the only candidate."
        if margin is None
        else f"A score lower by more than {margin:.1f} here, or as much higher at the next best.",
    )
