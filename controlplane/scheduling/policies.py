"""Name -> policy: an explicit table, and the two questions every driver asks.

``dispatch`` answers a gateway (where does this request go now?), ``plan`` answers the
loop (what should change in the fleet?). A policy is a row of the table: which score it
dispatches by and which of the core's mechanisms it uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from controlplane.scheduling import dispatch as scores
from controlplane.scheduling import queueing, rescheduling, scaling
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import Decision, Dispatch, Hold, Hole, Migrate, Reject
from controlplane.scheduling.ledger import NO_LEDGER, Ledger
from controlplane.scheduling.scaling import ScalingState
from controlplane.scheduling.snapshot import ClusterSnapshot, InstanceSnapshot, RequestProfile


@dataclass(frozen=True, slots=True)
class Policy:
    """One row of the table."""

    name: str
    summary: str
    score: scores.Score
    reschedules: bool = False
    priorities: bool = False
    in_flight_accounting: bool = False
    late_binding: bool = False


POLICIES: dict[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy("round_robin", "Fewest dispatched so far.", scores.fewest_dispatched),
        Policy(
            "least_outstanding",
            "Fewest requests running, waiting or on their way.",
            scores.fewest_outstanding,
        ),
        Policy("infaas++", "Most reported room per request; no migration.", scores.reported_freeness),
        Policy("llumnix_base", "Llumnix without priorities.", scores.reported_freeness, reschedules=True),
        Policy(
            "llumnix",
            "The paper's rules.",
            scores.reported_freeness,
            reschedules=True,
            priorities=True,
        ),
        Policy(
            "llumnix_ledger",
            "The paper's rules with in-flight accounting.",
            scores.accounted_freeness,
            reschedules=True,
            priorities=True,
            in_flight_accounting=True,
        ),
        Policy(
            "llumdeck",
            "A queue in front of the fleet, late binding, re-homing, holes; migration for decodes.",
            scores.accounted_freeness,
            reschedules=True,
            priorities=True,
            in_flight_accounting=True,
            late_binding=True,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class PlanState:
    """What the core remembers from round to round; the driver keeps it. ``PlanState()`` is the start."""

    sources: frozenset[str] = frozenset()
    """Instances that were sources in the last round."""
    holes: Mapping[str, str] = field(default_factory=dict)
    """Instance -> the request it is kept free for."""
    scaling: ScalingState = field(default_factory=ScalingState)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON types only)."""
        return {
            "sources": sorted(self.sources),
            "holes": dict(sorted(self.holes.items())),
            "scaling": self.scaling.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`; what is missing is as at the start (old states stay readable)."""
        return cls(
            frozenset(data.get("sources", ())),
            dict(data.get("holes", {})),
            ScalingState.from_dict(data.get("scaling", {})),
        )


def dispatch(
    snapshot: ClusterSnapshot, ledger: Ledger, request: RequestProfile, config: SchedulingConfig
) -> Dispatch | Hold | Reject:
    """Where does this request go now? Immediate binding; late-binding policies walk ``queueing``."""
    policy = POLICIES[config.policy]
    priorities = _priorities(policy, snapshot, request)
    return scores.bind_now(snapshot, ledger, request, config, _score(policy, config), priorities, policy.name)


def score_of(
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    request: RequestProfile,
    config: SchedulingConfig,
    instance: InstanceSnapshot,
) -> float:
    """The score by which the policy would dispatch this request to this instance."""
    policy = POLICIES[config.policy]
    priorities = _priorities(policy, snapshot, request)
    return _score(policy, config)(instance, ledger, config, priorities)


def _priorities(policy: Policy, snapshot: ClusterSnapshot, request: RequestProfile) -> scores.Priorities:
    if not policy.priorities or not snapshot.classes:
        return scores.NO_PRIORITIES
    return scores.priorities_of(snapshot.classes, request.slo_class)


def _score(policy: Policy, config: SchedulingConfig) -> scores.Score:
    wanted = config.dispatch.in_flight_accounting
    if wanted is None or policy.score not in (scores.reported_freeness, scores.accounted_freeness):
        return policy.score
    return scores.accounted_freeness if wanted else scores.reported_freeness


def plan(
    snapshot: ClusterSnapshot,
    state: PlanState,
    config: SchedulingConfig,
    ledger: Ledger = NO_LEDGER,
) -> tuple[tuple[Decision, ...], PlanState]:
    """What should change in the fleet now? ``(decisions, the state to hand in next time)``.

    ``ledger`` is what the caller knows to be on its way to the instances, if anything.
    """
    policy = POLICIES[config.policy]
    classes = snapshot.classes if policy.priorities else {}
    decisions: tuple[Decision, ...] = ()
    sources: frozenset[str] = frozenset()
    holes: Mapping[str, str] = {}
    if policy.reschedules and config.rescheduling.enabled:
        decisions, sources = rescheduling.pair(snapshot, state.sources, config, ledger, classes)
    if policy.late_binding and (snapshot.waiters or state.holes):
        more, holes = queueing.open_holes(snapshot, state.holes, config, ledger)
        decisions = _merge(decisions, more)
    if config.scaling.enabled:
        changes, scaled = scaling.plan(snapshot, state.scaling, config)
        return decisions + changes, PlanState(sources, holes, scaled)
    return decisions, PlanState(sources, holes, state.scaling)


def _merge(moves: tuple[Decision, ...], more: tuple[Hole | Migrate, ...]) -> tuple[Decision, ...]:
    """A hole's move takes precedence over the pairing's moves of the same two instances."""
    taken = {
        end for move in more if isinstance(move, Migrate) for end in (move.source_id, move.destination_id)
    }
    held = {hole.instance_id for hole in more if isinstance(hole, Hole)} | taken
    kept = tuple(
        move
        for move in moves
        if not isinstance(move, Migrate) or not {move.source_id, move.destination_id} & held
    )
    return more + kept
