"""What a child process is: its command, how to see that it is ready, what to do when it dies."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

Problem = str
"""Why something is not ready, in a few words; empty when it is."""

Probe = Callable[[], Awaitable[Problem]]


async def nothing_to_wait_for() -> Problem:
    return ""


@dataclass(frozen=True, slots=True)
class Child:
    """One process that the supervisor starts, watches, restarts and ends."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    """On top of the supervisor's own."""
    probe: Probe = nothing_to_wait_for
    ready_line: str = ""
    """Part of a line of its output that must have been seen, too."""
    ready_within_s: float = 60.0
    restartable: bool = True
    """False: its death ends everything, in order and with its name."""
    stage: int = 1
    """Ended after all children of lower stages: 1 what serves, 2 what it stands on, 3 the store."""
    grace_s: float = 5.0
    """Between SIGTERM and SIGKILL."""
    orphan_signal: str = "TERM"
    """What the kernel sends when the supervisor was killed; ``KILL`` for one that may not heed the other."""
    shown: bool = True
    """Whether its lines go to the terminal, and not to its file alone."""
    hint: str = ""
    """What to do when it does not start."""

    def argv(self) -> tuple[str, ...]:
        """The command, which the kernel ends with the supervisor where ``setpriv`` (util-linux) is there."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            return self.command
        return (setpriv, "--pdeathsig", self.orphan_signal, "--", *self.command)
