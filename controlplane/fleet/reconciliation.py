"""From rows to agents: what is pending is started, what died is started again, what left is stopped.

Level-triggered: it looks at what is and what is wanted, so that a missed run
costs only time. Each step claims its row first, so that two runs at once do
not start an agent twice.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from controlplane.fleet import services
from controlplane.fleet.agents import AgentClient, AgentError
from controlplane.fleet.models import Instance

State = Instance.State

FIRST_RESTART_S = 5.0
LONGEST_RESTART_S = 300.0
QUARANTINE_AFTER = 5
"""Failed starts in a row."""

logger = logging.getLogger(__name__)


def reconcile(*, agents: AgentClient, start_timeout_s: float, now: datetime) -> None:
    """One look at every instance that is not simply running. One query where there is nothing to do."""
    for instance in _unsettled():
        try:
            _settle(instance, agents, start_timeout_s, now)
        except AgentError as error:
            logger.warning("%s: %s", instance.instance_id, error)


def _unsettled() -> list[Instance]:
    settled = {State.READY, State.DRAINING, State.STOPPED, State.QUARANTINED}
    return list(Instance.objects.select_related("pool").exclude(state__in=settled))


def _settle(instance: Instance, agents: AgentClient, start_timeout_s: float, now: datetime) -> None:
    match instance.state:
        case State.PENDING:
            services.start_instance(instance=instance, agents=agents)
        case State.STARTING | State.WARMING:
            _watch_start(instance, agents, start_timeout_s, now)
        case State.DRAINED if instance.stop_when_drained:
            services.stop_instance(
                instance=instance, agents=agents, actor=services.SYSTEM, reason="drained and to leave"
            )
        case State.STOPPING:
            services.finish_stop(instance=instance, agents=agents)
        case State.UNHEALTHY:
            _revive(instance, agents, now)


def _watch_start(instance: Instance, agents: AgentClient, start_timeout_s: float, now: datetime) -> None:
    problem = agents.startup_problem(instance.instance_id)
    if not problem and now - instance.changed_at > timedelta(seconds=start_timeout_s):
        problem = f"not ready within {start_timeout_s:.0f} s"
    if problem:
        services.mark_unhealthy(instance=instance, cause=f"did not start: {problem}", now=now)


def _revive(instance: Instance, agents: AgentClient, now: datetime) -> None:
    """Start a dead agent again after a pause that doubles; one that only went silent is waited for."""
    if now - instance.changed_at < timedelta(seconds=restart_pause_s(instance.failures)):
        return
    if not agents.startup_problem(instance.instance_id):
        return
    if instance.failures >= QUARANTINE_AFTER:
        services.quarantine(instance=instance, now=now)
    else:
        services.start_instance(instance=instance, agents=agents)


def restart_pause_s(failures: int) -> float:
    """How long to wait after so many failed starts in a row."""
    return float(min(LONGEST_RESTART_S, FIRST_RESTART_S * 2 ** max(0, failures - 1)))
