"""Start, find and stop engine agents: the only public way, and the only place that knows Ray.

An agent is a detached actor named ``agent-<instance_id>``: it outlives whoever
started it. ``ray.init`` is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import ray
from ray._private.ray_constants import WORKER_PROCESS_SETUP_HOOK_ENV_VAR
from ray.actor import ActorHandle

from engine_agents.actor import EngineAgent
from engine_agents.config import AgentConfig
from engine_agents.sigterm import HOOK

NAMESPACE = "llumdeck"
CONTROL_CALLS_AT_ONCE = 16
"""A call that waits (readiness, shutdown) must not hold up the others."""
STOP_MARGIN_S = 15.0
"""Beyond the grace for requests: closing sockets and freeing the engine."""
_ENVIRONMENT = {
    # Ray takes the option worker_process_setup_hook from whole jobs only and passes over an actor's; workers
    # look for the hook in this variable, whoever set it.
    WORKER_PROCESS_SETUP_HOOK_ENV_VAR: HOOK,
    # The hook runs before Ray has told the worker where its driver's modules are.
    "PYTHONPATH": f"${{PYTHONPATH}}:{Path(__file__).resolve().parent.parent}",
}


def actor_name(instance_id: str) -> str:
    return f"agent-{instance_id}"


def start_agent(
    config: AgentConfig,
    *,
    node_labels: Mapping[str, str] | None = None,
    python: str = "",
    restarts: int = -1,
    **resources: float,
) -> ActorHandle[EngineAgent]:
    """Place an agent; returns once it exists, not once it is ready (``handle.wait_ready``).

    ``resources``: ``num_cpus`` (default 1), ``num_gpus``, ``memory`` in bytes, and any custom
    resource of the cluster by its name. ``node_labels`` as Ray's label selectors; ``python`` is the
    interpreter of another installation on the nodes. ``restarts``: how often Ray itself starts an agent
    again that died, -1 for ever. Raises ``ValueError`` when the name is taken.
    """
    if not config.instance_id:
        raise ValueError("instance_id: empty")
    named = {key: resources.pop(key) for key in ("num_cpus", "num_gpus", "memory") if key in resources}
    chosen: dict[str, Any] = {"num_cpus": 1} | named
    if node_labels:
        chosen["label_selector"] = dict(node_labels)
    chosen["runtime_env"] = {"env_vars": _ENVIRONMENT} | ({"py_executable": python} if python else {})
    actor = ray.remote(EngineAgent).options(
        name=actor_name(config.instance_id),
        namespace=NAMESPACE,
        lifetime="detached",
        max_restarts=restarts,
        max_concurrency=CONTROL_CALLS_AT_ONCE,
        resources=resources,
        **chosen,
    )
    handle: ActorHandle[EngineAgent] = actor.remote(msgspec.msgpack.encode(config))
    return handle


def find_agent(instance_id: str) -> ActorHandle[EngineAgent] | None:
    """The handle of a living agent, ``None`` when there is none of that name."""
    try:
        handle: ActorHandle[EngineAgent] = ray.get_actor(actor_name(instance_id), namespace=NAMESPACE)
    except ValueError:
        return None
    return handle


def stop_agent(instance_id: str, grace_s: float = 0.0) -> bool:
    """Let its requests end for up to ``grace_s``, then end it for good. False when there was none."""
    return bool(stop_agents([instance_id], grace_s))


def stop_agents(instance_ids: Sequence[str], grace_s: float = 0.0) -> list[str]:
    """Like :func:`stop_agent` for many at once; returns those that there were."""
    handles: dict[str, Any] = {name: handle for name in instance_ids if (handle := find_agent(name))}
    ending = [handle.shutdown.remote(grace_s) for handle in handles.values()]
    if ending:
        ray.wait(ending, num_returns=len(ending), timeout=grace_s + STOP_MARGIN_S)
    for handle in handles.values():
        ray.kill(handle, no_restart=True)
    return list(handles)
