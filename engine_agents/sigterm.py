"""SIGTERM, told to an event loop at once, whatever the main thread does.

Under Ray the main thread is inside C++ for life, actors run on other threads, and Ray's own handler ends
the process. So a hook that Ray runs on the main thread while a worker process starts
(:func:`settle_in_ray_worker`, see :mod:`engine_agents.launch`) keeps Ray from installing its handler; the
byte that Python's C handler writes for each signal is then read by the agent's loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

HOOK = "engine_agents.sigterm.settle_in_ray_worker"


class _Pipe:
    """Made once per process; signals write, the agent's loop reads."""

    reading: int | None = None


def settle_in_ray_worker() -> None:
    """On the main thread, before Ray's loop takes it for good."""
    from ray._private import utils

    listen_to_signals()
    utils.set_sigterm_handler = lambda handler: None


def listen_to_signals() -> None:
    """From now on SIGTERM does not end this process. Main thread only (``ValueError`` elsewhere)."""
    signal.signal(signal.SIGTERM, _noticed)
    if _Pipe.reading is None:
        _Pipe.reading, writing = os.pipe()
        os.set_blocking(_Pipe.reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)


def on_sigterm(loop: asyncio.AbstractEventLoop, told: Callable[[], None]) -> bool:
    """Call ``told`` on ``loop`` for each SIGTERM; False where nobody listens to signals in this process."""
    reading = _Pipe.reading
    if reading is None:
        return False

    def read() -> None:
        if signal.SIGTERM in os.read(reading, 256):
            told()

    loop.call_soon_threadsafe(loop.add_reader, reading, read)
    return True


def _noticed(number: int, frame: object) -> None:
    """What there is to do is done by the loop."""
