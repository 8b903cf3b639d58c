"""This process's one connection to the Ray cluster: made in the background, watched, made again.

A cluster whose head is away costs a caller at most its own time-out. Calls of
agents that are known go on without the head; what needs it (finding, placing,
killing an agent) is asked on threads of their own, which may wait for as long as
Ray makes them.
"""

from __future__ import annotations

import concurrent.futures
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

RETRY_CONNECT_S = 5.0
ASKERS = 4
MAX_ASKED = 4 * ASKERS
"""Questions to the head at a time; one more means that it answers nobody."""
HEAD_CONNECT_S = 1.0
NOBODY = "nobody"
REPLACED = ("WrongClusterID", "Unauthenticated")

logger = logging.getLogger(__name__)


class RayConnection:
    """One connection of this process to the cluster."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._thread: threading.Thread | None = None
        self._tried_at_s = float("-inf")
        self._askers = concurrent.futures.ThreadPoolExecutor(ASKERS, thread_name_prefix="ray-ask")
        self._asked: dict[str, concurrent.futures.Future[Any]] = {}
        self.problem = "not connected yet"

    def ready(self, *, timeout_s: float) -> bool:
        """Whether the cluster can be used, waiting at most so long for the attempt that is under way."""
        if not self._connected.is_set():
            self._try()
            if self._thread is not None:
                self._thread.join(timeout_s)
        return self._connected.is_set()

    def lost(self, problem: str) -> None:
        """A call showed that the cluster is gone: forget it and try again in the background."""
        with self._lock:
            self._connected.clear()
            self.problem = problem

    def head_problem(self, *, timeout_s: float) -> str:
        """Why the head cannot be asked; empty when it answers within the time."""
        if not self.ready(timeout_s=timeout_s):
            return self.problem
        try:
            self.find(NOBODY, timeout_s=timeout_s)
        except (TimeoutError, ConnectionError) as error:
            return str(error)
        return ""

    def find(self, instance_id: str, *, timeout_s: float) -> Any:
        """The handle of a living agent, ``None`` when there is none of that name.

        Raises ``TimeoutError`` while the head does not answer, ``ConnectionError`` when it is another's.
        """
        from engine_agents import launch

        if problem := head_is_deaf():
            raise TimeoutError(problem)
        future = self._asking(instance_id, launch.find_agent)
        try:
            return future.result(timeout_s)
        except concurrent.futures.TimeoutError as error:
            raise TimeoutError("Ray's head does not answer") from error
        except Exception as error:  # Ray raises many kinds; all mean the same here.
            problem = f"Ray does not answer: {error}"
            if any(word in str(error) for word in REPLACED):
                problem = "Ray's head was replaced by another cluster's"
            self.lost(problem)
            raise ConnectionError(problem) from error
        finally:
            if future.done():
                with self._lock:
                    self._asked.pop(instance_id, None)

    def _asking(self, instance_id: str, find: Callable[[str], Any]) -> concurrent.futures.Future[Any]:
        """The question that is under way, or a new one. Raises ``TimeoutError`` when too many are."""
        with self._lock:
            if instance_id not in self._asked:
                if len(self._asked) >= MAX_ASKED:
                    # What was answered after its caller had left may never be asked for again.
                    self._asked = {name: one for name, one in self._asked.items() if not one.done()}
                if len(self._asked) >= MAX_ASKED:
                    raise TimeoutError("Ray's head does not answer")
                self._asked[instance_id] = self._askers.submit(find, instance_id)
            return self._asked[instance_id]

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
        # Ray's own attempt at a head that is not there holds the whole process for seconds.
        if problem := head_is_deaf():
            self.problem = problem
            return
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


def head_is_deaf() -> str:
    """Why the head of the settings cannot be spoken to; empty when it takes connections or none is named."""
    parts = urlsplit(f"//{settings.RAY_ADDRESS}")
    if not parts.hostname or not parts.port:
        return ""
    try:
        socket.create_connection((parts.hostname, parts.port), timeout=HEAD_CONNECT_S).close()
    except OSError as error:
        return f"Ray's head at {settings.RAY_ADDRESS} is away ({error.strerror or error})"
    return ""


connection = RayConnection()
