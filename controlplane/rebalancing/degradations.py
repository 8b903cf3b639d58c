"""What the loop has to do without at the moment, since when, and when to try again."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator
from contextlib import contextmanager

from controlplane.rebalancing.types import Degradation

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0

logger = logging.getLogger(__name__)


class Degradations:
    """Named parts that fail or work; a part that fails is logged once and listed until it works again."""

    def __init__(self) -> None:
        self._failing: dict[str, Degradation] = {}

    def failed(self, part: str, reason: str, *, wall_s: float) -> None:
        known = self._failing.get(part)
        if known is None:
            logger.warning("the loop goes on without %s: %s", part, reason)
        since_s = known.since_s if known else wall_s
        self._failing[part] = Degradation(part=part, reason=reason[:300], since_s=since_s)

    def works(self, part: str) -> None:
        if self._failing.pop(part, None) is not None:
            logger.info("the loop has %s again", part)

    def listed(self) -> list[Degradation]:
        return [degradation for _, degradation in sorted(self._failing.copy().items())]

    def __contains__(self, part: str) -> bool:
        return part in self._failing

    @contextmanager
    def coping(self, part: str, *errors: type[Exception], wall_s: float) -> Iterator[None]:
        """Go on after one of ``errors`` inside, with the part listed as failing."""
        try:
            yield
        except errors as error:
            self.failed(part, f"{type(error).__name__}: {error}", wall_s=wall_s)
        else:
            self.works(part)


class Backoff:
    """Per name: after each failure in a row wait twice as long before the next try."""

    def __init__(self, *, longest_s: float = LONGEST_BACKOFF_S) -> None:
        self._failures: dict[str, tuple[int, float]] = {}
        self._longest_s = longest_s

    def failed(self, name: str, *, now_s: float) -> None:
        count = self._failures.get(name, (0, 0.0))[0]
        wait_s = min(self._longest_s, FIRST_BACKOFF_S * 2**count)
        self._failures[name] = (count + 1, now_s + wait_s)

    def works(self, name: str) -> None:
        self._failures.pop(name, None)

    def waits(self, name: str, *, now_s: float) -> bool:
        return name in self._failures and now_s < self._failures[name][1]

    def forget_others(self, names: Container[str]) -> None:
        """Whoever is not among these is gone: it neither fails nor is waited for."""
        self._failures = {name: known for name, known in self._failures.items() if name in names}

    def names(self) -> list[str]:
        """Who fails at present."""
        return sorted(self._failures)
