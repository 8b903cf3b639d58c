"""Waiting for an engine's operation from the event loop: bounded, and never left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from engine_agents.engines.port import MoveImpossible

T = TypeVar("T")


async def ask(future: Future[T], within_s: float, undo: Callable[[T], Any] | None = None) -> T:
    """The result of an engine operation. Raises ``MoveImpossible`` when it fails or takes too long.

    ``undo`` is called with the result should it come after we gave up (or were cancelled).
    """
    try:
        async with asyncio.timeout(within_s):
            return await asyncio.shield(asyncio.wrap_future(future))
    except MoveImpossible:
        raise
    except TimeoutError:
        _undo_late(future, undo)
        raise MoveImpossible("the engine did not answer in time") from None
    except asyncio.CancelledError:
        _undo_late(future, undo)
        raise
    except Exception as error:
        raise MoveImpossible(f"the engine failed: {error}") from error


def _undo_late(future: Future[T], undo: Callable[[T], Any] | None) -> None:
    def done(late: Future[T]) -> None:
        if undo is not None and not late.cancelled() and late.exception() is None:
            undo(late.result())

    future.add_done_callback(done)
