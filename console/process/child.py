"""What a child process is: its command, how to see that it is ready, what to do when it dies."""

from __future__ import annotations

import shutil
import signal
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
    dies_with_us_by: signal.Signals = signal.SIGTERM
    """Sent by the kernel should the supervisor itself be killed."""
    shown: bool = True
    """Whether its lines go to the terminal, and not to its file alone."""
    hint: str = ""
    """What to do when it does not start."""

    def argv(self) -> tuple[str, ...]:
        """The command, tied to the life of the supervisor where ``setpriv`` (util-linux) is there."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            return self.command
        name = self.dies_with_us_by.name.removeprefix("SIG")
        return (setpriv, "--pdeathsig", name, "--", *self.command)
