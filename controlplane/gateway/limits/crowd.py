"""How many wait in this gateway's queue under each limit of ``queued_requests``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from controlplane.tenancy.types import LimitTerms

if TYPE_CHECKING:
    from controlplane.gateway.live_requests import LiveRequest


class Crowd:
    """Counts by subject; a request counts under the class it had when it joined."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._subjects: dict[str, tuple[str, ...]] = {}

    def joined(self, live: LiveRequest) -> None:
        subjects = tuple(each.subject for each in live.call.caller.limits if each.queued_requests is not None)
        if subjects:
            self._subjects[live.request_id] = subjects
            self._waiting.update(subjects)

    def left(self, live: LiveRequest) -> None:
        for subject in self._subjects.pop(live.request_id, ()):
            self._waiting[subject] -= 1
            if not self._waiting[subject]:
                del self._waiting[subject]

    def excess(self, live: LiveRequest) -> LimitTerms | None:
        """The limit of ``queued_requests`` beyond which this request waits; ``None``: it may wait."""
        for each in live.call.caller.limits:
            limit = each.queued_requests
            if limit is not None and self._waiting[each.subject] > limit:
                return each
        return None
