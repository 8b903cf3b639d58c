"""Who has been waited for too long, by this process's own clock: clocks of others do not enter."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


class Patience:
    """Remembers since when it has seen whom waiting; a new process begins to wait anew."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self._since_s: dict[Hashable, float] = {}

    def overdue(self, waiting: Iterable[Name], *, now_s: float) -> list[Name]:
        """Those of ``waiting`` that were there ``limit_s`` (monotonic) ago and in every look since."""
        found = list(waiting)
        self._since_s = {name: self._since_s.get(name, now_s) for name in found}
        return [name for name in found if now_s - self._since_s[name] > self.limit_s]
