"""Waiting for engines, and ending agents on a Ray that is not ours."""

from __future__ import annotations

import asyncio
import time

from django.conf import settings
from django.db import close_old_connections

from console.process.failure import StackError
from console.process.options import Options
from console.process.output import Terminal
from controlplane.fleet import selectors
from controlplane.fleet.agents import AgentError
from controlplane.fleet.models import Instance
from controlplane.fleet.ray_agents import RayAgentClient

POLL_S = 0.5
WITHIN_S = 600.0
STOP_GRACE_S = 3.0
BROKEN = frozenset({Instance.State.UNHEALTHY, Instance.State.QUARANTINED})


async def wait_for_engines(options: Options, terminal: Terminal) -> None:
    """Until every instance is ready, telling each change. Raises :class:`StackError` with the cause."""
    started_s = time.monotonic()
    told: dict[str, str] = {}
    with terminal.console.status("engines …") as status:
        while time.monotonic() - started_s < WITHIN_S:
            states = await asyncio.to_thread(_states)
            waited_s = time.monotonic() - started_s
            _tell_changes(states, told, waited_s, terminal)
            _raise_if_broken(states, options)
            if all(state == Instance.State.READY for state, _ in states.values()):
                return
            status.update(_line(states, waited_s))
            await asyncio.sleep(POLL_S)
    raise StackError(f"the engines were not ready within {WITHIN_S:.0f} s: {_line(states, waited_s)}")


def _states() -> dict[str, tuple[str, str]]:
    try:
        rows = selectors.instances().exclude(state=Instance.State.STOPPED)
        return {row.instance_id: (row.state, row.cause) for row in rows}
    finally:
        close_old_connections()


def _tell_changes(
    states: dict[str, tuple[str, str]], told: dict[str, str], waited_s: float, terminal: Terminal
) -> None:
    for name, (state, _) in states.items():
        if told.get(name) != state:
            told[name] = state
            mark = "✓" if state == Instance.State.READY else "·"
            terminal.say(f"{mark} engine {name}: {state} ({waited_s:.1f} s)", style="green")


def _raise_if_broken(states: dict[str, tuple[str, str]], options: Options) -> None:
    for name, (state, cause) in states.items():
        if state in BROKEN:
            raise StackError(
                f"engine {name} {cause.rstrip('.')}. (Sizes are set by KV_MEMORY_MIB and MAX_MODEL_LEN; "
                f"its log is in {options.state_dir / 'logs'}.)"
            )


def _line(states: dict[str, tuple[str, str]], waited_s: float) -> str:
    return (
        f"engines: {', '.join(f'{name} {state}' for name, (state, _) in states.items())} ({waited_s:.0f} s)"
    )


def stop_agents() -> None:
    """End our agents on a Ray that goes on without us. Raises :class:`StackError`."""
    client = RayAgentClient()
    try:
        rows = selectors.instances().exclude(state=Instance.State.STOPPED)
        client.stop([row.instance_id for row in rows], grace_s=STOP_GRACE_S)
    except AgentError as error:
        raise StackError(f"agents at {settings.RAY_ADDRESS} could not be ended: {error}") from error
    finally:
        close_old_connections()
