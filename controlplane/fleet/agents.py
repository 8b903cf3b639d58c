"""How the control plane commands engine agents: the port, the Ray client, and a fake beside them.

Commands to many agents go out together and share one time-out. An agent that
does not answer in time is reported as such, never waited for: whether it took
the command is learnt from its status and from the outcomes it reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from engine_agents.config import AgentConfig
from engine_agents.messages import MigrateOut, MigrateOutAnswer, PlannedMove, RequestInfo

GONE = "its agent does not exist"


class AgentError(RuntimeError):
    """An agent could not be reached, started or asked; the text says why."""


class ClusterAwayError(AgentError):
    """Nothing can be placed, found or ended at present; it says nothing about any one agent."""


class MoveCommand(NamedTuple):
    """One ``migrate_out`` for one source."""

    source_id: str
    message: MigrateOut


class Placement(NamedTuple):
    """Where an agent may run, and by which interpreter."""

    resources: Mapping[str, float] = {}
    """``num_cpus``, ``num_gpus``, ``memory`` (bytes), and custom resources by name."""
    node_labels: Mapping[str, str] = {}
    python: str = ""
    """Empty: the one of Ray's node."""


class AgentClient(Protocol):
    """What the control plane asks of agents."""

    def require_cluster(self) -> None:
        """Raises :class:`ClusterAwayError` unless agents can be placed and ended now."""

    def start(self, config: AgentConfig, placement: Placement) -> None:
        """Place an agent; returns once it exists, not once it is ready. Raises :class:`AgentError`."""

    def startup_problems(self, instance_ids: Sequence[str]) -> dict[str, str]:
        """Why a started agent cannot become ready; empty while it may. Raises :class:`AgentError`."""

    def stop(self, instance_ids: Sequence[str], *, grace_s: float) -> dict[str, str]:
        """End agents together; one that is gone already is fine. Returns the problem per instance that
        may still run. Raises :class:`AgentError` when nobody can be asked."""

    def migrate_out(self, commands: Sequence[MoveCommand], *, timeout_s: float) -> list[MigrateOutAnswer]:
        """Command all sources at once; an unreachable one answers ``accepted=False`` with the reason."""

    def set_accepting(
        self, wishes: Mapping[str, bool], *, lease_epoch: int, timeout_s: float
    ) -> dict[str, str]:
        """Drain or undrain; returns the problem per instance that did not confirm."""

    def requests(self, instance_ids: Sequence[str], *, timeout_s: float) -> dict[str, list[RequestInfo]]:
        """Live requests of those that answer in time."""


class FakeAgentClient:
    """Agents that obey at once and remember what they were told; refuses old epochs as real ones do."""

    def __init__(self) -> None:
        self.started: dict[str, AgentConfig] = {}
        self.placements: dict[str, Placement] = {}
        self.cluster_problem = ""
        self.moves: list[MoveCommand] = []
        self.accepting: dict[str, bool] = {}
        self.live_requests: dict[str, list[RequestInfo]] = {}
        self.unreachable: set[str] = set()
        self.start_problems: dict[str, str] = {}
        self.epochs: dict[str, int] = {}
        self.refused_epochs = 0
        self.planned: dict[str, MigrateOutAnswer] = {}
        """Answer per source; by default it accepts and will move ``request-of-<source>``."""

    def start(self, config: AgentConfig, placement: Placement) -> None:
        self.require_cluster()
        if config.instance_id in self.unreachable:
            raise AgentError(f"{config.instance_id}: no node has room")
        self.started[config.instance_id] = config
        self.placements[config.instance_id] = placement

    def startup_problems(self, instance_ids: Sequence[str]) -> dict[str, str]:
        self.require_cluster()
        return {name: self.start_problems.get(name, "") for name in instance_ids}

    def stop(self, instance_ids: Sequence[str], *, grace_s: float) -> dict[str, str]:
        self.require_cluster()
        for name in instance_ids:
            if name not in self.unreachable:
                self.started.pop(name, None)
        return {name: "does not answer" for name in instance_ids if name in self.unreachable}

    def require_cluster(self) -> None:
        if self.cluster_problem:
            raise ClusterAwayError(self.cluster_problem)

    def migrate_out(self, commands: Sequence[MoveCommand], *, timeout_s: float) -> list[MigrateOutAnswer]:
        return [self._migrate_out(command) for command in commands]

    def set_accepting(
        self, wishes: Mapping[str, bool], *, lease_epoch: int, timeout_s: float
    ) -> dict[str, str]:
        problems = {}
        for instance_id, accepting in wishes.items():
            problem = self._refusal(instance_id, lease_epoch)
            if problem:
                problems[instance_id] = problem
            else:
                self.accepting[instance_id] = accepting
        return problems

    def requests(self, instance_ids: Sequence[str], *, timeout_s: float) -> dict[str, list[RequestInfo]]:
        reachable = [name for name in instance_ids if name not in self.unreachable]
        return {name: self.live_requests.get(name, []) for name in reachable}

    def _migrate_out(self, command: MoveCommand) -> MigrateOutAnswer:
        refusal = self._refusal(command.source_id, command.message.lease_epoch)
        if refusal:
            return MigrateOutAnswer(accepted=False, reason=refusal)
        self.moves.append(command)
        return self.planned.get(command.source_id) or _plain_answer(command)

    def _refusal(self, instance_id: str, lease_epoch: int) -> str:
        if instance_id in self.unreachable:
            return "unreachable: does not answer"
        if lease_epoch < self.epochs.get(instance_id, 0):
            self.refused_epochs += 1
            return f"stale epoch {lease_epoch}"
        self.epochs[instance_id] = lease_epoch
        return ""


def _plain_answer(command: MoveCommand) -> MigrateOutAnswer:
    message = command.message
    move = PlannedMove(
        migration_id=message.migration_id,
        request_id=message.request_id or f"request-of-{command.source_id}",
        slo_class="standard",
        tenant="demo",
        tokens=message.budget_tokens,
        why="the only one",
    )
    return MigrateOutAnswer(accepted=True, planned=[move])
