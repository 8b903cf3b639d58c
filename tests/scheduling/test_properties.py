"""What must hold for every policy on every cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.scheduling import filters
from controlplane.scheduling.config import POLICY_NAMES, SchedulingConfig
from controlplane.scheduling.decisions import Dispatch, Migrate
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.load import demand_tokens
from controlplane.scheduling.policies import POLICIES, PlanState, dispatch, plan
from controlplane.scheduling.queueing import FleetQueue, next_dispatches
from controlplane.scheduling.rescheduling import effective_threshold
from controlplane.scheduling.snapshot import ClusterSnapshot, RequestProfile
from engine_agents.selection import Candidate, choose
from tests.scheduling.clusters import clusters, examples, instance, requests

RESCHEDULING = [name for name in POLICY_NAMES if POLICIES[name].reschedules]


def by_id(snapshot: ClusterSnapshot):
    return {each.instance_id: each for each in snapshot.instances}


def migrations(snapshot: ClusterSnapshot, policy: str) -> list[Migrate]:
    config = SchedulingConfig.for_policy(policy)
    return [d for d in plan(snapshot, PlanState(), config)[0] if isinstance(d, Migrate)]


@pytest.mark.parametrize("policy", RESCHEDULING)
@examples
@given(snapshot=clusters())
def test_no_move_to_itself_nor_to_a_draining_stale_or_full_instance(policy, snapshot) -> None:
    config, members = SchedulingConfig.for_policy(policy), by_id(snapshot)
    for move in migrations(snapshot, policy):
        taker = members[move.destination_id]
        assert move.source_id != move.destination_id
        assert not taker.draining and taker.accepting
        assert taker.age_s <= config.dispatch.staleness_limit_s
        assert move.budget_tokens <= taker.capacity_tokens - taker.used_tokens - taker.reserved_tokens
        assert taker.migrations_in + taker.migrations_out < taker.migration_slots


@pytest.mark.parametrize("policy", RESCHEDULING)
@examples
@given(snapshot=clusters())
def test_no_instance_gives_and_takes_in_one_round_and_none_takes_twice(policy, snapshot) -> None:
    moves = migrations(snapshot, policy)
    givers = [move.source_id for move in moves]
    takers = [move.destination_id for move in moves]
    assert not set(givers) & set(takers)
    assert len(set(givers)) == len(givers)
    assert len(set(takers)) == len(takers)


@pytest.mark.parametrize("policy", POLICY_NAMES)
@examples
@given(snapshot=clusters(), asked=requests, order=st.randoms(use_true_random=False))
def test_the_order_of_the_instances_changes_nothing(policy, snapshot, asked, order) -> None:
    config = SchedulingConfig.for_policy(policy, scaling={"enabled": True})
    shuffled = list(snapshot.instances)
    order.shuffle(shuffled)
    other = replace(snapshot, instances=tuple(shuffled))
    assert plan(snapshot, PlanState(), config) == plan(other, PlanState(), config)
    assert dispatch(snapshot, Ledger(), asked, config) == dispatch(other, Ledger(), asked, config)
    queue = FleetQueue()
    queue.add(asked, 0, 0.0)
    assert next_dispatches(queue, snapshot, Ledger(), config) == next_dispatches(
        queue, other, Ledger(), config
    )


@pytest.mark.parametrize("policy", POLICY_NAMES)
@examples
@given(snapshot=clusters(), asked=requests)
def test_no_dispatch_to_an_instance_that_takes_no_work(policy, snapshot, asked) -> None:
    config = SchedulingConfig.for_policy(policy)
    decision = dispatch(snapshot, Ledger(), asked, config)
    if isinstance(decision, Dispatch):
        assert filters.for_request(by_id(snapshot)[decision.instance_id], asked, config) == ""


def fleet_queue(asked: list[RequestProfile]) -> FleetQueue:
    queue = FleetQueue()
    for number, each in enumerate(asked):
        queue.add(replace(each, request_id=f"r{number}"), 0, each.arrived_at_s)
    return queue


@examples
@given(snapshot=clusters(), asked=st.lists(requests, max_size=12))
def test_late_binding_never_overfills_an_instance(snapshot, asked) -> None:
    config = SchedulingConfig.for_policy("llumdeck")
    queue = fleet_queue(asked)
    given_to: dict[str, int] = {}
    for each in next_dispatches(queue, snapshot, Ledger(), config):
        member = by_id(snapshot)[each.instance_id]
        demand = demand_tokens(queue.get(each.request_id).tokens, member.block_size_tokens)
        given_to[each.instance_id] = given_to.get(each.instance_id, 0) + demand
    for name, tokens in given_to.items():
        member = by_id(snapshot)[name]
        held = member.used_tokens + member.reserved_tokens + member.queued_tokens
        assert held + tokens <= member.capacity_tokens


@examples
@given(st.lists(st.integers(1, 8000), min_size=1, max_size=40), st.integers(1, 4))
def test_nobody_waits_for_ever_while_room_exists_and_the_work_is_finite(tokens, count) -> None:
    """Whoever is bound runs and leaves; then the queue is empty after at most one walk per request."""
    config = SchedulingConfig.for_policy("llumdeck")
    queue = FleetQueue()
    for number, each in enumerate(tokens):
        queue.add(RequestProfile(f"r{number}", "standard", each, float(number)), 1, float(number))
    idle = ClusterSnapshot(0.0, tuple(instance(f"i{n}") for n in range(count)))
    for _ in tokens:
        bound = next_dispatches(queue, idle, Ledger(), config)
        assert bound or not len(queue), "room for everyone, yet somebody waits"
        for each in bound:
            queue.remove(each.request_id)
    assert not len(queue)


@examples
@given(snapshot=clusters(), asked=requests, sent=st.lists(st.integers(0, 900), max_size=6))
def test_one_request_alone_goes_where_a_walk_would_send_it(snapshot, asked, sent) -> None:
    config, ledger = SchedulingConfig.for_policy("llumdeck"), Ledger()
    for seq, tokens in enumerate(sent):
        ledger.sent(f"i{seq % 3}", seq, tokens)
    queue = fleet_queue([asked])
    walked = next_dispatches(queue, snapshot, ledger, config, holes={"i0": "other"})
    assert walked == next_dispatches(queue, snapshot, ledger, config, holes={"i0": "other"}, request_id="r0")


@examples
@given(snapshot=clusters(), asked=requests)
def test_a_request_that_fits_an_open_instance_is_not_held(snapshot, asked) -> None:
    config = SchedulingConfig.for_policy(
        "llumdeck", dispatch={"unprefilled_limit_tokens": 0}, queue={"reserve_tokens": 0.0}
    )
    plain = replace(snapshot, classes={})
    queue = fleet_queue([asked])
    tokens = asked.prompt_tokens + asked.generated_tokens
    fits = any(
        not filters.for_request(each, asked, config)
        and each.capacity_tokens * 0.99
        - each.used_tokens
        - each.reserved_tokens
        - each.queued_tokens
        - demand_tokens(tokens, each.block_size_tokens)
        >= 0
        for each in plain.instances
    )
    assert bool(next_dispatches(queue, plain, Ledger(), config)) == fits


@st.composite
def still_fleets(draw):
    """Instances as lists of request lengths; nothing arrives, grows or ends."""
    lengths = st.lists(st.integers(16, 3000), max_size=12)
    fleet = [draw(lengths) for _ in range(draw(st.integers(2, 5)))]
    return [[t for i, t in enumerate(one) if sum(one[: i + 1]) < 8192] for one in fleet]


def picture(fleet: list[list[int]]) -> ClusterSnapshot:
    members = (
        instance(f"i{n}", used_tokens=sum(demand_tokens(t, 16) for t in one), running=len(one))
        for n, one in enumerate(fleet)
    )
    return ClusterSnapshot(0.0, tuple(members))


def carry_out(fleet: list[list[int]], move: Migrate) -> list[int]:
    """Let the source's own selection choose, as live; returns what moved."""
    giver, taker = int(move.source_id[1:]), int(move.destination_id[1:])
    present = [
        Candidate(str(n), str(n), "running", 1, tokens, 1, float(n)) for n, tokens in enumerate(fleet[giver])
    ]
    chosen = choose(
        present, budget_tokens=move.budget_tokens, max_requests=move.max_requests, order=move.order
    )
    moved = [fleet[giver][int(each.engine_id)] for each in chosen]
    assert sum(moved) <= move.budget_tokens
    for tokens in moved:
        fleet[giver].remove(tokens)
        fleet[taker].append(tokens)
    return moved


@pytest.mark.parametrize("policy", RESCHEDULING)
@examples
@given(fleet=still_fleets())
def test_no_ping_pong_on_a_cluster_that_stands_still(policy, fleet) -> None:
    """Who took something never gives: so the moves end, and no request comes back."""
    config = SchedulingConfig.for_policy(policy)
    state, takers, total = PlanState(), set(), sum(map(len, fleet))
    for _ in range(total + 1):
        decisions, state = plan(picture(fleet), state, config)
        moved = [
            (move, tokens)
            for move in decisions
            if isinstance(move, Migrate)
            for tokens in carry_out(fleet, move)
        ]
        takers |= {move.destination_id for move, _ in moved}
        assert not takers & {move.source_id for move, _ in moved}
        if not moved:
            break
    else:
        pytest.fail("still moving after as many rounds as there are requests")


@pytest.mark.parametrize("policy", RESCHEDULING)
@examples
@given(fleet=still_fleets())
def test_a_destination_keeps_its_threshold(policy, fleet) -> None:
    config = SchedulingConfig.for_policy(policy)
    for move in migrations(picture(fleet), policy):
        carry_out(fleet, move)
        taker = picture(fleet).instances[int(move.destination_id[1:])]
        threshold = effective_threshold(config.rescheduling.destination_threshold_tokens, taker)
        # Whole blocks may cost the moved request up to one block more than its tokens.
        free = taker.capacity_tokens - taker.used_tokens
        assert free >= threshold * taker.running - taker.block_size_tokens
