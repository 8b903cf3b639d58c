"""Finished requests to the database: from a thread, in batches, never in a client's way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from controlplane.records.types import FinishedRequest

logger = logging.getLogger(__name__)

MAX_WAITING = 20_000
"""Beyond this the oldest are dropped and counted: history is lost, no request."""
BATCH = 200
BATCH_INTERVAL_S = 0.5
RETRY_S = 2.0
CLOSE_LIMIT_S = 5.0

Write = Callable[[Sequence[FinishedRequest]], object]
"""``controlplane.records.services.record_requests``; may block, may raise."""


class RecordWriter:
    """``put`` on the event loop; the writing is done by a thread of its own."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._waiting: deque[FinishedRequest] = deque()
        self._stopping = threading.Event()
        self.dropped = 0
        self.written = 0
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def put(self, finished: FinishedRequest) -> None:
        waiting = self._waiting
        waiting.append(finished)
        if len(waiting) > MAX_WAITING:
            waiting.popleft()
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for a few seconds at most."""
        self._stopping.set()
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive():
            logger.warning("%d finished requests were not recorded", len(self._waiting))

    def _run(self) -> None:
        batch: list[FinishedRequest] = []
        while not self._stopping.is_set() or self._waiting or batch:
            self._fill(batch)
            if not batch:
                continue
            try:
                self._write(batch)
            except Exception as error:
                logger.warning("%d records wait for the database: %s", len(batch), type(error).__name__)
                if self._stopping.wait(RETRY_S):
                    return
                continue
            self.written += len(batch)
            batch.clear()

    def _fill(self, batch: list[FinishedRequest]) -> None:
        """Wait a little for the first ones, then take what is there."""
        if not batch:
            self._stopping.wait(BATCH_INTERVAL_S)
        while len(batch) < BATCH:
            try:
                batch.append(self._waiting.popleft())
            except IndexError:
                return
