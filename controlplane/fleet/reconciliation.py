"""From rows to agents: what is pending is started, what died is started again, what left is stopped.

Level-triggered: it looks at what is and what is wanted, so that a missed run
costs only time. Each start claims its row first, and an agent's name is taken
once in a cluster, so that two runs at once do not start an agent twice. Without
Ray nothing is placed and nothing is judged: agents that run go on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from controlplane.fleet import services
from controlplane.fleet.agents import GONE, AgentClient, AgentError
from controlplane.fleet.models import Instance
from controlplane.fleet.models.instance import STABLE_AFTER

State = Instance.State
WhenDrained = Instance.WhenDrained

FIRST_RESTART_S = 5.0
LONGEST_RESTART_S = 300.0
QUARANTINE_AFTER = 5
"""Failures in a row."""
STOP_GRACE_S = 1.0
HUNG_AFTER = timedelta(seconds=120)
ANSWER_WITHIN_S = 5.0
PLACING = timedelta(seconds=20)
"""An agent that is just being placed may not be found yet."""

logger = logging.getLogger(__name__)


def reconcile(*, agents: AgentClient, start_timeout_s: float, now: datetime) -> str:
    """One look at every instance that is not simply running. One query where there is nothing to do.

    Returns why agents could not be asked; empty when they could.
    """
    rows = _unsettled()
    problems = []
    for step in (_stop, _watch_starts, _revive, _start):
        try:
            step(rows, agents, start_timeout_s, now)
        except AgentError as error:
            problems.append(str(error))
    for problem in dict.fromkeys(problems):
        logger.warning("the fleet waits: %s", problem)
    return problems[0] if problems else ""


def _unsettled() -> list[Instance]:
    settled = {State.READY, State.STOPPED, State.QUARANTINED}
    return list(Instance.objects.select_related("pool").exclude(state__in=settled))


def _in(rows: Iterable[Instance], *states: str) -> list[Instance]:
    return [row for row in rows if row.state in states]


def _stop(rows: list[Instance], agents: AgentClient, start_timeout_s: float, now: datetime) -> None:
    """Agents of what is stopping, of what has drained and is to go, of what outlived its deadline."""
    for row in _in(rows, State.DRAINED):
        if row.when_drained in {WhenDrained.STOP, WhenDrained.RESTART}:
            services.begin_stop(instance=row, cause=f"drained, to {row.when_drained}", now=now)
        elif row.when_drained == WhenDrained.UNDRAIN:
            services.undrain_instance(instance=row, actor=services.SYSTEM, reason="emptied")
    for row in _in(rows, State.DRAINING):
        if _is_overdue(row, now):
            services.begin_stop(instance=row, cause="its drain took too long: recomputed elsewhere", now=now)
    leaving = {row.instance_id: row for row in _in(rows, State.STOPPING)}
    if not leaving:
        return
    problems = agents.stop(list(leaving), grace_s=STOP_GRACE_S)
    for name, row in leaving.items():
        if name in problems:
            logger.warning("%s could not be stopped: %s", name, problems[name])
        else:
            services.finish_stop(instance=row, now=now)


def _is_overdue(row: Instance, now: datetime) -> bool:
    return (
        row.on_deadline == Instance.OnDeadline.RECOMPUTE
        and row.drain_deadline_at is not None
        and now >= row.drain_deadline_at
    )


def _start(rows: list[Instance], agents: AgentClient, start_timeout_s: float, now: datetime) -> None:
    for row in _in(rows, State.PENDING):
        services.start_instance(instance=row, agents=agents)


def _watch_starts(rows: list[Instance], agents: AgentClient, start_timeout_s: float, now: datetime) -> None:
    rising = {row.instance_id: row for row in _in(rows, State.STARTING, State.WARMING)}
    if not rising:
        return
    problems = agents.startup_problems(list(rising))
    for name, row in rising.items():
        problem = problems.get(name, "")
        if problem == GONE and now - row.changed_at < PLACING:
            continue  # Another process may be placing it at this moment.
        if not problem and now - row.changed_at > timedelta(seconds=start_timeout_s):
            problem = f"not ready within {start_timeout_s:.0f} s"
        if problem:
            services.mark_unhealthy(instance=row, cause=f"did not start: {problem}", now=now)


def _revive(rows: list[Instance], agents: AgentClient, start_timeout_s: float, now: datetime) -> None:
    """Start a dead agent again after a pause that doubles; one that only went silent is waited for."""
    due = {row.instance_id: row for row in _in(rows, State.UNHEALTHY) if now >= next_restart_at(row)}
    if not due:
        return
    problems = agents.startup_problems(list(due))
    _end_hung([row for name, row in due.items() if not problems.get(name)], agents, now)
    for name, row in due.items():
        if not problems.get(name):
            continue
        if row.failures >= QUARANTINE_AFTER:
            services.quarantine(instance=row, now=now)
        else:
            services.start_instance(instance=row, agents=agents)


def _end_hung(silent: list[Instance], agents: AgentClient, now: datetime) -> None:
    """An agent that neither reports nor answers for minutes holds its memory for nothing."""
    late = {row.instance_id: row for row in silent if now - row.changed_at > HUNG_AFTER}
    if not late:
        return
    answered = agents.requests(list(late), timeout_s=ANSWER_WITHIN_S)
    for name in late.keys() - answered.keys():
        late[name].when_drained = WhenDrained.RESTART
        late[name].save(update_fields=["when_drained"])
        cause = f"neither reported nor answered for {HUNG_AFTER.seconds} s: ended, to be started again"
        services.begin_stop(instance=late[name], cause=cause, now=now)


def next_restart_at(row: Instance) -> datetime:
    """When an unhealthy instance may be started again."""
    return row.changed_at + timedelta(seconds=restart_pause_s(row.failures))


def restart_pause_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return float(min(LONGEST_RESTART_S, FIRST_RESTART_S * 2 ** max(0, failures - 1)))


def forget_failures(now: datetime) -> int:
    """Instances that have served for long enough start anew with their count; returns how many."""
    settled = Instance.objects.filter(state=State.READY, failures__gt=0, changed_at__lt=now - STABLE_AFTER)
    return settled.update(failures=0, failure_log="")
