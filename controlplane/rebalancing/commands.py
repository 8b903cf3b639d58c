"""What a tick tells agents: moves, drains, and a look at their requests; all at once, each with a limit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from controlplane.fleet.agents import AgentClient, MoveCommand
from controlplane.fleet.live_status import SeenStatus
from controlplane.rebalancing import services
from controlplane.rebalancing.degradations import Backoff
from controlplane.rebalancing.models import RequestMigration
from controlplane.rebalancing.types import Round
from engine_agents.messages import MigrateOutAnswer, RequestInfo

MANUAL_PATIENCE = timedelta(seconds=10)
LOOK_EVERY_S = 1.0
LOOK_LIMIT_S = 0.5

Answered = tuple[RequestMigration, MigrateOutAnswer]


class Commander:
    """Sends the commands of a tick; an agent that does not answer is left alone for a growing while."""

    def __init__(self, agents: AgentClient, *, timeout_s: float) -> None:
        self.refused = 0
        self._agents = agents
        self._timeout_s = timeout_s
        self._backoff = Backoff()
        self._looked_at_s = float("-inf")

    def unreachable(self, seen: Iterable[SeenStatus], *, dead_s: float) -> list[str]:
        """Agents that did not answer when last asked; not those that do not report either: they are gone."""
        if self._backoff.names():
            self._backoff.forget_others({item.status.instance_id for item in seen if item.age_s <= dead_s})
        return self._backoff.names()

    def move(self, rounds: Sequence[Round], *, now_s: float) -> None:
        """Command the sources of all rounds together; each round keeps its commands and answers."""
        for done in rounds:
            done.commands = [each for each in done.commands if self._may_ask(each.source_id, now_s)]
        answers = iter(self._migrate_out([each for done in rounds for each in done.commands], now_s))
        for done in rounds:
            done.answers = [next(answers) for _ in done.commands]

    def move_asked(
        self,
        asked: Sequence[RequestMigration],
        seen: Sequence[SeenStatus],
        *,
        epoch: int,
        now_s: float,
        now: datetime,
    ) -> list[Answered]:
        """Command the moves that people asked for; a destination unknown for long is refused."""
        pairs = [(row, services.manual_command(row, seen, epoch=epoch)) for row in asked]
        ready = [(row, command) for row, command in pairs if command is not None]
        answers = self._migrate_out([command for _, command in ready], now_s)
        waited = [row for row, command in pairs if command is None and now - row.started_at > MANUAL_PATIENCE]
        return [
            *((row, answer) for (row, _), answer in zip(ready, answers, strict=True)),
            *((row, _refusal(f"{row.destination} does not report")) for row in waited),
        ]

    def settle_wishes(
        self,
        wishes: Mapping[str, bool],
        seen: Sequence[SeenStatus],
        *,
        epoch: int,
        stale_s: float,
        now_s: float,
    ) -> None:
        """Tell agents to drain or undrain where their report and the wish differ.

        Agents that have not heard of this epoch are told their wish too: from
        then on they refuse whoever led before.
        """
        unsettled = {
            name: wish
            for name, wish in unsettled_wishes(wishes, seen, epoch=epoch, stale_s=stale_s).items()
            if self._may_ask(name, now_s)
        }
        if not unsettled:
            return
        problems = self._agents.set_accepting(unsettled, lease_epoch=epoch, timeout_s=self._timeout_s)
        for name in unsettled:
            self._learn(name, problems.get(name, ""), now_s)

    def look(self, watched: Sequence[str], *, now_s: float) -> dict[str, list[RequestInfo]]:
        """Once a second, the requests on instances that somebody looks at."""
        wanted = [name for name in watched if self._may_ask(name, now_s)]
        if not wanted or now_s - self._looked_at_s < LOOK_EVERY_S:
            return {}
        self._looked_at_s = now_s
        return self._agents.requests(wanted, timeout_s=min(LOOK_LIMIT_S, self._timeout_s))

    def _migrate_out(self, commands: Sequence[MoveCommand], now_s: float) -> list[MigrateOutAnswer]:
        if not commands:
            return []
        answers = self._agents.migrate_out(commands, timeout_s=self._timeout_s)
        for command, answer in zip(commands, answers, strict=True):
            self.refused += not answer.accepted
            self._learn(command.source_id, "" if answer.accepted else answer.reason, now_s)
        return answers

    def _may_ask(self, instance_id: str, now_s: float) -> bool:
        return not self._backoff.waits(instance_id, now_s=now_s)

    def _learn(self, instance_id: str, problem: str, now_s: float) -> None:
        """A refusal is an answer; only silence and failures make an agent wait."""
        if problem.startswith(("unreachable", "failed")):
            self._backoff.failed(instance_id, now_s=now_s)
        else:
            self._backoff.works(instance_id)


def unsettled_wishes(
    wishes: Mapping[str, bool], seen: Iterable[SeenStatus], *, epoch: int, stale_s: float
) -> dict[str, bool]:
    """Ready instances whose fresh report differs from the wish, or is of an older epoch."""
    return {
        status.instance_id: wishes[status.instance_id]
        for status, age_s in seen
        if status.instance_id in wishes
        and status.state == "ready"
        and age_s <= stale_s
        and (status.accepting != wishes[status.instance_id] or status.lease_epoch < epoch)
    }


def _refusal(reason: str) -> MigrateOutAnswer:
    return MigrateOutAnswer(accepted=False, reason=reason)
