"""The port to agents over Ray. Ray is imported and connected on first use, away from the caller."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from controlplane.fleet.agents import GONE, AgentError, ClusterAwayError, MoveCommand, Placement
from controlplane.fleet.jobs_status import RayNode
from controlplane.fleet.placement import placement_problem
from controlplane.fleet.ray_connection import connection
from engine_agents.config import AgentConfig
from engine_agents.messages import MigrateOutAnswer, RequestInfo, encode

HEAD_TIMEOUT_S = 5.0
"""For what only Ray's head can do; it is asked again at the next look."""
READY_PATIENCE_S = 0.5

_answer_decoder = msgspec.msgpack.Decoder(MigrateOutAnswer)
_requests_decoder = msgspec.msgpack.Decoder(list[RequestInfo])


@functools.cache
def ray_agents() -> RayAgentClient:
    """The one client of this process; threads share it."""
    return RayAgentClient()


class RayAgentClient:
    """See :class:`controlplane.fleet.agents.AgentClient`."""

    def __init__(self) -> None:
        self._handles: dict[str, Any] = {}
        self._readiness: dict[str, Any] = {}
        """One question per agent at a time: each waiting one holds one of the agent's few call slots."""

    # ---- life

    def require_cluster(self) -> None:
        if problem := connection.head_problem(timeout_s=HEAD_TIMEOUT_S):
            raise ClusterAwayError(problem)

    def start(self, config: AgentConfig, placement: Placement) -> None:
        """Adopts a living agent of that name; one that failed to start is replaced."""
        import ray

        from engine_agents import launch

        self.require_cluster()
        name = config.instance_id
        try:
            if self._find(name) is not None:
                if not self.startup_problems([name])[name]:
                    return
                launch.stop_agents([name])
            self._forget(name)
            if problem := placement_problem(placement, ray.nodes()):
                raise AgentError(problem)
            self._handles[name] = launch.start_agent(
                config,
                node_labels=placement.node_labels,
                python=placement.python,
                restarts=0,  # pauses between starts and their end are the fleet's to decide
                **dict(placement.resources),
            )
        except AgentError:
            raise
        except Exception as error:  # whatever Ray or the actor's constructor raises is the operator's to read
            raise AgentError(sentence(error)) from error

    def startup_problems(self, instance_ids: Sequence[str]) -> dict[str, str]:
        import ray

        self.require_cluster()
        asked = {name: ref for name in instance_ids if (ref := self._readiness_of(name)) is not None}
        refs = list(asked.values())
        done = set(ray.wait(refs, num_returns=len(refs), timeout=READY_PATIENCE_S)[0]) if refs else set()
        return {name: self._startup_problem(name, asked.get(name), done) for name in instance_ids}

    def _readiness_of(self, instance_id: str) -> Any:
        if instance_id not in self._readiness:
            handle = self._find(instance_id)
            if handle is None:
                return None
            self._readiness[instance_id] = handle.wait_ready.remote()
        return self._readiness[instance_id]

    def _startup_problem(self, instance_id: str, ref: Any, done: set[Any]) -> str:
        import ray

        if ref is None:
            return GONE
        if ref not in done:
            return ""
        try:
            ray.get(ref)
        except Exception as error:
            self._forget(instance_id)
            return sentence(error)
        self._readiness.pop(instance_id, None)
        return ""

    def stop(self, instance_ids: Sequence[str], *, grace_s: float) -> dict[str, str]:
        from engine_agents import launch

        self.require_cluster()
        for name in instance_ids:
            self._forget(name)
        try:
            launch.stop_agents(instance_ids, grace_s)
        except Exception as error:
            raise AgentError(sentence(error)) from error
        return {}

    # ---- commands

    def migrate_out(self, commands: Sequence[MoveCommand], *, timeout_s: float) -> list[MigrateOutAnswer]:
        answers = self._ask(
            [(each.source_id, "migrate_out", (encode(each.message),)) for each in commands],
            timeout_s=timeout_s,
        )
        return [_move_answer(each) for each in answers]

    def set_accepting(
        self, wishes: Mapping[str, bool], *, lease_epoch: int, timeout_s: float
    ) -> dict[str, str]:
        names = list(wishes)
        answers = self._ask(
            [(name, "set_accepting", (wishes[name], lease_epoch)) for name in names], timeout_s=timeout_s
        )
        problems = {}
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, AgentError):
                problems[name] = str(answer)
            elif answer is False:
                problems[name] = f"refused: epoch {lease_epoch} is stale"
        return problems

    def requests(self, instance_ids: Sequence[str], *, timeout_s: float) -> dict[str, list[RequestInfo]]:
        answers = self._ask([(name, "requests", ()) for name in instance_ids], timeout_s=timeout_s)
        return {
            name: _requests_decoder.decode(answer)
            for name, answer in zip(instance_ids, answers, strict=True)
            if isinstance(answer, bytes)
        }

    # ---- one batch

    def _ask(self, calls: Sequence[tuple[str, str, tuple[Any, ...]]], *, timeout_s: float) -> list[Any]:
        """Call all agents together; an answer, or an :class:`AgentError` in its place, per call."""
        if not calls:
            return []
        if not connection.ready(timeout_s=timeout_s):
            return [AgentError(f"unreachable: {connection.problem}")] * len(calls)
        import ray

        share_s = timeout_s / (2 * len(calls))
        sent = [self._send(*call, timeout_s=share_s) for call in calls]
        refs = [ref for ref in sent if not isinstance(ref, AgentError)]
        done = set(ray.wait(refs, num_returns=len(refs), timeout=timeout_s)[0]) if refs else set()
        return [self._fetch(name, ref, done) for (name, _, _), ref in zip(calls, sent, strict=True)]

    def _send(self, instance_id: str, method: str, arguments: tuple[Any, ...], *, timeout_s: float) -> Any:
        try:
            handle = self._find(instance_id, timeout_s=timeout_s)
            if handle is None:
                return AgentError("unreachable: no such agent")
            return getattr(handle, method).remote(*arguments)
        except AgentError as error:
            return AgentError(f"unreachable: {error}")
        except Exception as error:
            self._forget(instance_id)
            return AgentError(f"unreachable: {sentence(error)}")

    def _fetch(self, instance_id: str, ref: Any, done: set[Any]) -> Any:
        import ray

        if isinstance(ref, AgentError):
            return ref
        if ref not in done:
            return AgentError("unreachable: no answer in time")
        try:
            return ray.get(ref)
        except ray.exceptions.RayActorError as error:
            self._forget(instance_id)
            return AgentError(f"unreachable: {sentence(error)}")
        except Exception as error:
            return AgentError(f"failed: {sentence(error)}")

    def _find(self, instance_id: str, *, timeout_s: float = HEAD_TIMEOUT_S) -> Any:
        """The handle of a living agent; ``None`` when there is none. Raises :class:`AgentError`."""
        if instance_id not in self._handles:
            try:
                handle = connection.find(instance_id, timeout_s=timeout_s)
            except (TimeoutError, ConnectionError) as error:
                raise ClusterAwayError(str(error)) from error
            if handle is None:
                return None
            self._handles[instance_id] = handle
        return self._handles[instance_id]

    def _forget(self, instance_id: str) -> None:
        self._handles.pop(instance_id, None)
        self._readiness.pop(instance_id, None)


def cluster_nodes() -> tuple[list[RayNode], str]:
    """The cluster's nodes as its head knows them, and why it cannot be asked (then there are none)."""
    if problem := connection.head_problem(timeout_s=HEAD_TIMEOUT_S):
        return [], problem
    import ray

    return [_node(each) for each in ray.nodes()], ""


def ray_version() -> str:
    import ray

    return str(ray.__version__)


def _node(listed: Mapping[str, Any]) -> RayNode:
    resources = listed.get("Resources") or {}
    return RayNode(
        node_id=str(listed.get("NodeID", "")),
        address=str(listed.get("NodeManagerAddress", "")),
        alive=bool(listed.get("Alive")),
        resources={name: float(amount) for name, amount in resources.items() if not name.startswith("node:")},
        labels={key: value for key, value in (listed.get("Labels") or {}).items() if "ray.io/" not in key},
    )


def _move_answer(answer: Any) -> MigrateOutAnswer:
    if isinstance(answer, AgentError):
        return MigrateOutAnswer(accepted=False, reason=str(answer))
    return _answer_decoder.decode(answer) if isinstance(answer, bytes) else answer


KILLED = "its process ended suddenly (killed, out of memory, or crashed)"


def sentence(error: BaseException) -> str:
    """What happened, from Ray's long texts: the last line, or how the process ended."""
    text = str(error)
    if "unexpectedly exits with a connection error" in text or "SYSTEM_ERROR" in text:
        return KILLED
    if "exit code" in text and (code := re.search(r"exit code[ :=]*(\d+)", text)):
        return f"its process ended with code {code.group(1)}"
    if "ray.kill" in text:
        return "its agent was ended"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:400]
