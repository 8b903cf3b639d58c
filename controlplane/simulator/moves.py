"""Live migrations in virtual time: selection, stages, freeze, hand-over, abort.

The same course as live (Llumnix, OSDI'24, section 4.2): stage 0 copies what is there
while decoding goes on, each further stage what the last one left, until the rest is
less than a block; then the request is frozen at the end of the step in progress, stands
still for the hand-over, and goes on at the destination.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from controlplane.scheduling.decisions import Migrate
from controlplane.simulator import events
from controlplane.simulator.cluster import Member
from controlplane.simulator.result import MigrationRecord
from engine_agents import selection
from engine_agents.engines.simulated import Sequence

if TYPE_CHECKING:
    from controlplane.simulator.driver import _Simulation

MAX_STAGES = 8


class _Move:
    """One migration of one request, under way."""

    __slots__ = (
        "copied", "destination", "over", "reserved", "rule", "sequence", "source", "stages", "start_s", "why",
    )  # fmt: skip

    def __init__(self, sequence: Sequence, source: Member, destination: Member, rule: str, why: str) -> None:
        self.sequence = sequence
        self.source = source
        self.destination = destination
        self.rule = rule
        self.why = why
        self.reserved = 0
        self.copied = 0
        self.stages = 0
        self.start_s = 0.0
        self.over = False


class Moves:
    """All migrations of a simulation."""

    def __init__(self, simulation: _Simulation) -> None:
        self._simulation = simulation
        self._events = simulation.events
        self._latency = simulation.config.latency
        self._moving: dict[int, _Move] = {}
        self.records: list[MigrationRecord] = []

    def command(self, decision: Migrate, now: float) -> None:
        """The loop tells a source to hand work away; each end holds one slot until the outcome is known."""
        members = self._simulation.cluster.members
        source, destination = members[decision.source_id], members[decision.destination_id]
        self._hold(source, destination, 1)
        at_s = now + self._simulation.config.dispatch_delay_s
        self._events.push(at_s, events.MESSAGE, self._choose, (decision, source, destination))

    def _hold(self, source: Member, destination: Member, change: int) -> None:
        source.moves += change
        destination.moves += change
        source.snapshot.migrations_out += change
        destination.snapshot.migrations_in += change

    def _choose(self, now: float, command: tuple[Migrate, Member, Member]) -> None:
        """At the source: which requests leave?"""
        decision, source, destination = command
        chosen = selection.choose(
            self._candidates(source, now),
            budget_tokens=decision.budget_tokens,
            max_requests=decision.max_requests,
            order=decision.order,
            need_tokens=decision.need_tokens,
            spare_rank_below=decision.spare_rank_below,
        )
        by_id = {sequence.request_id: sequence for sequence in source.engine.movable()} if chosen else {}
        for choice in chosen:
            move = _Move(by_id[choice.request_id], source, destination, decision.rule, choice.why)
            self._hold(source, destination, 1)
            self._reserve(move, now)
        at_s = now + self._simulation.config.report_delay_s
        self._events.push(at_s, events.REPORT, self._answered, (source, destination))

    def _answered(self, now: float, ends: tuple[Member, Member]) -> None:
        """The command's own hold ends; each migration that came of it holds its own."""
        self._hold(*ends, -1)
        self._perhaps_gone(ends[0], now)

    def _candidates(self, source: Member, now: float) -> list[selection.Candidate]:
        engine = source.engine
        return [
            selection.Candidate(
                sequence.request_id,
                sequence.request_id,
                "running",
                sequence.rank,
                engine.tokens_of(sequence, now),
                1,
                sequence.arrived_at_s,
                sequence.leaving,
            )
            for sequence in engine.movable()
        ]

    def _reserve(self, move: _Move, now: float) -> None:
        """RESERVE reaches the destination together with the gateway's knowledge of it (its ledger)."""
        sequence, destination = move.sequence, move.destination
        move.start_s = now
        sequence.leaving = True
        self._moving[sequence.number] = move
        tokens = move.source.engine.tokens_of(sequence, now)
        blocks = -(-tokens // destination.engine.block_size)
        self._simulation.log.note(now, events.MOVE_STARTED, sequence.number, destination.engine.index)
        if destination.draining or not destination.engine.reserve(blocks, now):
            self._abort(move, "no_room", now)
            return
        destination.engine.seen_seq = self._simulation.cluster.send(destination, tokens)
        move.reserved = blocks
        self._simulation.sync(destination)
        self._copy(move, tokens, now)

    def _copy(self, move: _Move, tokens: int, now: float) -> None:
        """One stage: everything up to ``tokens`` that is not copied yet."""
        duration = (tokens - move.copied) * self._latency.migration_copy_s_per_token
        move.copied = tokens
        move.stages += 1
        self._events.push(now + duration, events.MESSAGE, self._copied, move)

    def _copied(self, now: float, move: _Move) -> None:
        if move.over:
            return
        tokens = move.source.engine.tokens_of(move.sequence, now)
        size = move.destination.engine.block_size
        if tokens - move.copied <= size or move.stages >= MAX_STAGES:
            move.source.engine.freeze(move.sequence, now)
            self._simulation.sync(move.source)
            return
        if not self._extend(move, -(-tokens // size), now):
            self._abort(move, "no_room", now)
            return
        self._copy(move, tokens, now)

    def _extend(self, move: _Move, blocks: int, now: float) -> bool:
        missing = blocks - move.reserved
        if missing <= 0:
            return True
        if not move.destination.engine.extend(missing, now):
            return False
        move.reserved = blocks
        self._simulation.sync(move.destination)
        return True

    def frozen(self, sequence: Sequence, now: float) -> None:
        """The source's step ended: the request stands still, unless it is over or pre-empted."""
        move = self._moving.get(sequence.number)
        if move is None or move.over or sequence.finished_s >= 0.0:
            return
        tokens = sequence.prompt_tokens + sequence.generated
        held = (tokens - 2) // move.destination.engine.block_size + 1
        if move.destination.draining or not self._extend(move, held, now):
            move.source.engine.thaw(sequence, now)
            self._abort(move, "no_room", now)
            return
        move.stages += 1
        stall_s = self._latency.migration_stall_s(tokens)
        self._events.push(now + stall_s, events.MESSAGE, self._commit, (move, stall_s))

    def _commit(self, now: float, handed: tuple[_Move, float]) -> None:
        move, stall_s = handed
        sequence = move.sequence
        sequence.migrations += 1
        sequence.downtime_s += stall_s
        move.source.engine.release(sequence, now)
        move.destination.engine.adopt(sequence, move.reserved, now)
        self._simulation.sync(move.source)
        self._simulation.sync(move.destination)
        self._over(move, "done", stall_s, now)

    def lost(self, sequence: Sequence, reason: str, now: float) -> None:
        """It finished or was pre-empted while it was leaving."""
        move = self._moving.get(sequence.number)
        if move is not None:
            self._abort(move, reason, now)

    def _abort(self, move: _Move, reason: str, now: float) -> None:
        if move.reserved:
            move.destination.engine.drop(move.reserved, now)
            self._simulation.sync(move.destination)
        self._over(move, reason, 0.0, now)

    def _over(self, move: _Move, outcome: str, downtime_s: float, now: float) -> None:
        move.over = True
        move.sequence.leaving = False
        del self._moving[move.sequence.number]
        kind = events.MOVE_DONE if outcome == "done" else events.MOVE_ABORTED
        self._simulation.log.note(now, kind, move.sequence.number, move.destination.engine.index)
        self.records.append(
            MigrationRecord(
                move.sequence.number,
                move.source.engine.index,
                move.destination.engine.index,
                move.rule,
                move.why,
                move.start_s,
                now,
                move.copied,
                move.stages,
                outcome,
                downtime_s,
            )
        )
        at_s = now + self._simulation.config.report_delay_s
        self._events.push(at_s, events.REPORT, self._answered, (move.source, move.destination))

    def _perhaps_gone(self, member: Member, now: float) -> None:
        if member.draining and member.id in self._simulation.cluster.members:
            self._simulation._retire(member, now)
