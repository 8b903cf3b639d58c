"""Engines that are not too fast for a test: what is to happen in the middle of a request needs a middle."""

from __future__ import annotations

import time
from typing import Any


def set_least_step(engine: Any, least_ms: float) -> None:
    """Let each step of this real engine take at least so long from now on; 0: as fast as it goes."""
    thread = engine.serving.thread
    step = type(thread).step

    def slow_step() -> None:
        began_s = time.perf_counter()
        step(thread)
        time.sleep(max(0.0, least_ms / 1e3 - (time.perf_counter() - began_s)))

    thread.step = slow_step
