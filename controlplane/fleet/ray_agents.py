"""The port to agents over Ray. Ray is imported and connected on first use, away from the caller.

A cluster that does not answer costs a caller at most its own time-out: the
connection is tried in a thread of its own, and until it stands every agent is
answered for as unreachable.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.conf import settings

from controlplane.fleet.agents import AgentError, MoveCommand, Placement
from engine_agents.config import AgentConfig
from engine_agents.messages import MigrateOutAnswer, RequestInfo, encode

START_TIMEOUT_S = 60.0
RETRY_CONNECT_S = 5.0
READY_PATIENCE_S = 0.5

_answer_decoder = msgspec.msgpack.Decoder(MigrateOutAnswer)
_requests_decoder = msgspec.msgpack.Decoder(list[RequestInfo])
logger = logging.getLogger(__name__)


class RayConnection:
    """One connection of this process to the cluster, made in the background and again after a loss."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._thread: threading.Thread | None = None
        self._tried_at_s = float("-inf")
        self.problem = "not connected yet"

    def ready(self, *, timeout_s: float) -> bool:
        """Whether the cluster can be used, waiting at most so long for it."""
        if not self._connected.is_set():
            self._try()
        return self._connected.wait(timeout_s)

    def lost(self, problem: str) -> None:
        """A call showed that the cluster is gone: forget it and try again in the background."""
        with self._lock:
            self._connected.clear()
            self.problem = problem

    def _try(self) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            if time.monotonic() - self._tried_at_s < RETRY_CONNECT_S:
                return
            self._tried_at_s = time.monotonic()
            self._thread = threading.Thread(target=self._connect, name="ray-connect", daemon=True)
            self._thread.start()

    def _connect(self) -> None:
        import ray

        from engine_agents import launch

        try:
            if ray.is_initialized():
                ray.shutdown()
            ray.init(
                address=settings.RAY_ADDRESS or "auto",
                namespace=launch.NAMESPACE,
                log_to_driver=False,
                configure_logging=False,
            )
        except Exception as error:  # Ray raises many kinds; all mean the same here.
            self.problem = f"Ray does not answer: {error}"
            logger.warning(self.problem)
            return
        self.problem = ""
        self._connected.set()


connection = RayConnection()


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

    def start(self, config: AgentConfig, placement: Placement) -> None:
        """Adopts a living agent of that name; one that failed to start is replaced."""
        from engine_agents import launch

        self._require_ray()
        name = config.instance_id
        try:
            if self._handle(name) is not None:
                if not self.startup_problems([name])[name]:
                    return
                launch.stop_agent(name)
            self._forget(name)
            self._handles[name] = launch.start_agent(
                config,
                node_labels=placement.node_labels,
                python=placement.python,
                restarts=0,  # pauses between starts and their end are the fleet's to decide
                **dict(placement.resources),
            )
        except Exception as error:  # whatever Ray or the actor's constructor raises is the operator's to read
            raise AgentError(_sentence(error)) from error

    def startup_problems(self, instance_ids: Sequence[str]) -> dict[str, str]:
        import ray

        self._require_ray()
        asked = {name: ref for name in instance_ids if (ref := self._readiness_of(name)) is not None}
        refs = list(asked.values())
        done = set(ray.wait(refs, num_returns=len(refs), timeout=READY_PATIENCE_S)[0]) if refs else set()
        return {name: self._startup_problem(name, asked.get(name), done) for name in instance_ids}

    def _readiness_of(self, instance_id: str) -> Any:
        if instance_id not in self._readiness:
            handle = self._handle(instance_id)
            if handle is None:
                return None
            self._readiness[instance_id] = handle.wait_ready.remote()
        return self._readiness[instance_id]

    def _startup_problem(self, instance_id: str, ref: Any, done: set[Any]) -> str:
        import ray

        if ref is None:
            return "its agent does not exist"
        if ref not in done:
            return ""
        try:
            ray.get(ref)
        except Exception as error:
            self._forget(instance_id)
            return _sentence(error)
        self._readiness.pop(instance_id, None)
        return ""

    def stop(self, instance_ids: Sequence[str], *, grace_s: float) -> dict[str, str]:
        from engine_agents import launch

        self._require_ray()
        for name in instance_ids:
            self._forget(name)
        try:
            launch.stop_agents(instance_ids, grace_s)
        except Exception as error:
            raise AgentError(_sentence(error)) from error
        return {}

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

        sent = [self._send(*call) for call in calls]
        refs = [ref for ref in sent if not isinstance(ref, AgentError)]
        done = set(ray.wait(refs, num_returns=len(refs), timeout=timeout_s)[0]) if refs else set()
        return [self._fetch(name, ref, done) for (name, _, _), ref in zip(calls, sent, strict=True)]

    def _send(self, instance_id: str, method: str, arguments: tuple[Any, ...]) -> Any:
        handle = self._handle(instance_id)
        if handle is None:
            return AgentError("unreachable: no such agent")
        try:
            return getattr(handle, method).remote(*arguments)
        except Exception as error:
            self._forget(instance_id)
            return AgentError(f"unreachable: {_sentence(error)}")

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
            return AgentError(f"unreachable: {_sentence(error)}")
        except Exception as error:
            return AgentError(f"failed: {_sentence(error)}")

    def _handle(self, instance_id: str) -> Any:
        from engine_agents import launch

        if instance_id not in self._handles:
            try:
                handle = launch.find_agent(instance_id)
            except Exception as error:
                connection.lost(_sentence(error))
                return None
            if handle is None:
                return None
            self._handles[instance_id] = handle
        return self._handles[instance_id]

    def _forget(self, instance_id: str) -> None:
        self._handles.pop(instance_id, None)
        self._readiness.pop(instance_id, None)

    def _require_ray(self) -> None:
        if not connection.ready(timeout_s=START_TIMEOUT_S):
            raise AgentError(connection.problem)


def _move_answer(answer: Any) -> MigrateOutAnswer:
    if isinstance(answer, AgentError):
        return MigrateOutAnswer(accepted=False, reason=str(answer))
    return _answer_decoder.decode(answer) if isinstance(answer, bytes) else answer


def _sentence(error: BaseException) -> str:
    """The last line of Ray's long texts says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:400]
