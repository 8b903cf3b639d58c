"""One pool in one tick: what is decided, commanded and remembered."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import transaction

from controlplane.events.publish import publish
from controlplane.events.schema import RoundPlanned
from controlplane.fleet.agents import AgentClient, MoveCommand
from controlplane.fleet.live_status import SeenStatus, to_cluster_snapshot
from controlplane.rebalancing.models import RebalanceRound, RequestMigration
from controlplane.rebalancing.serialisation import decisions_to_data
from controlplane.rebalancing.services.migrations import migration_event
from controlplane.rebalancing.types import PoolPolicy, Round
from controlplane.records.services import audit
from controlplane.scheduling.decisions import Decision, Migrate
from controlplane.scheduling.policies import PlanState, plan
from controlplane.scheduling.snapshot import ClassRule, RequestProfile
from engine_agents.messages import MigrateOut, MigrateOutAnswer

ACTOR = "system:loop"
AUDITED_MOVES = 20


def plan_round(
    policy: PoolPolicy,
    seen: Sequence[SeenStatus],
    *,
    classes: Mapping[str, ClassRule],
    draining: frozenset[str],
    starting: int = 0,
    waiters: tuple[RequestProfile, ...] = (),
    queue_tokens: int = 0,
    state: PlanState,
    epoch: int,
    tick: int,
    now: datetime,
) -> Round:
    """Snapshot -> the core's decisions -> commands for the sources. Nothing is sent or stored."""
    snapshot = to_cluster_snapshot(
        seen,
        pool=policy.pool,
        classes=classes,
        taken_at_s=now.timestamp(),
        draining=draining,
        starting=starting,
        waiters=waiters,
        queue_tokens=queue_tokens,
    )
    decisions, state_after = plan(snapshot, state, policy.config)
    endpoints = {item.status.instance_id: item.status.peer_endpoint for item in seen}
    return Round(
        policy=policy,
        epoch=epoch,
        tick=tick,
        taken_at=now,
        snapshot=snapshot,
        state_before=state,
        state_after=state_after,
        decisions=decisions,
        commands=_commands(policy, decisions, endpoints, epoch, tick),
    )


def run_round(
    policy: PoolPolicy,
    seen: Sequence[SeenStatus],
    agents: AgentClient,
    *,
    classes: Mapping[str, ClassRule],
    draining: frozenset[str] = frozenset(),
    state: PlanState | None = None,
    epoch: int,
    tick: int,
    now: datetime,
    timeout_s: float,
) -> Round:
    """One pool, one tick, start to end: plan, command the sources together, store and announce."""
    started_s = time.perf_counter()
    done = plan_round(
        policy,
        seen,
        classes=classes,
        draining=draining,
        state=state or PlanState(),
        epoch=epoch,
        tick=tick,
        now=now,
    )
    done.answers = agents.migrate_out(done.commands, timeout_s=timeout_s)
    done.duration_ms = (time.perf_counter() - started_s) * 1000
    record_rounds([done])
    return done


def _commands(
    policy: PoolPolicy,
    decisions: Iterable[Decision],
    endpoints: Mapping[str, str],
    epoch: int,
    tick: int,
) -> list[MoveCommand]:
    moves = [each for each in decisions if isinstance(each, Migrate)]
    return [
        MoveCommand(
            move.source_id,
            MigrateOut(
                migration_id=f"{policy.pool}-{epoch}-{tick}-{index}",
                destination_instance_id=move.destination_id,
                destination_peer_endpoint=endpoints[move.destination_id],
                rule=move.rule,
                lease_epoch=epoch,
                budget_tokens=move.budget_tokens,
                max_requests=move.max_requests,
                order=move.order,
                need_tokens=move.need_tokens,
                spare_rank_below=move.spare_rank_below,
            ),
        )
        for index, move in enumerate(moves)
    ]


@transaction.atomic
def record_rounds(rounds: Sequence[Round]) -> list[RebalanceRound]:
    """Store the rounds that decided something, and a row per request that will move.

    Three statements and an audit entry per round that commanded something, whatever the number of moves.
    """
    decided = [each for each in rounds if each.decisions]
    rows = RebalanceRound.objects.bulk_create([_round_row(each) for each in decided])
    moves = [move for each, row in zip(decided, rows, strict=True) for move in _planned_moves(each, row)]
    RequestMigration.objects.bulk_create(moves, ignore_conflicts=True)
    _audit_commands(decided)
    publish(*(_round_event(each, row) for each, row in zip(decided, rows, strict=True)))
    publish(*(migration_event(move, at=move.started_at) for move in moves))
    return rows


def _audit_commands(decided: Iterable[Round]) -> None:
    """One entry per round that commanded something, for those who ask later who moved what."""
    for each in decided:
        if each.commands:
            moves = [
                f"{command.source_id} → {command.message.destination_instance_id} ({command.message.rule})"
                for command in each.commands
            ]
            audit(
                actor=ACTOR,
                action="round.migrate",
                object_type="round",
                object_id=f"{each.policy.pool}/{each.epoch}.{each.tick}",
                after={"moves": moves[:AUDITED_MOVES], "commands": len(moves)},
                now=each.taken_at,
            )


def _round_row(done: Round) -> RebalanceRound:
    return RebalanceRound(
        pool_id=done.policy.pool_id,
        taken_at=done.taken_at,
        epoch=done.epoch,
        tick=done.tick,
        policy_id=done.policy.policy_id,
        snapshot=done.snapshot,
        state_before=done.state_before.to_dict(),
        config=done.policy.config.to_dict(),
        decisions=decisions_to_data(done.decisions),
        answers=[_answer_data(*pair) for pair in zip(done.commands, done.answers, strict=False)],
        duration_ms=done.duration_ms,
    )


def _answer_data(command: MoveCommand, answer: MigrateOutAnswer) -> dict[str, Any]:
    return {
        "migration_id": command.message.migration_id,
        "source_id": command.source_id,
        "destination_id": command.message.destination_instance_id,
        "accepted": answer.accepted,
        "reason": answer.reason,
        "request_ids": [move.request_id for move in answer.planned],
    }


def _planned_moves(done: Round, row: RebalanceRound) -> list[RequestMigration]:
    return [
        RequestMigration(
            migration_id=move.migration_id,
            request_id=move.request_id,
            source=command.source_id,
            destination=command.message.destination_instance_id,
            rule=command.message.rule,
            why=move.why[:500],
            slo_class=move.slo_class,
            tenant=move.tenant,
            tokens_at_start=move.tokens,
            started_at=done.taken_at,
            round=row,
        )
        for command, answer in zip(done.commands, done.answers, strict=False)
        for move in answer.planned
    ]


def _round_event(done: Round, row: RebalanceRound) -> RoundPlanned:
    moves = [
        f"{each.source_id} → {each.destination_id} ({each.rule})"
        for each in done.decisions
        if isinstance(each, Migrate)
    ]
    return RoundPlanned.of(
        at=done.taken_at,
        round_id=row.pk,
        policy=done.policy.config.policy,
        decisions=len(done.decisions),
        summary=", ".join(moves[:4]),
    )
