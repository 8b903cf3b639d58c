"""The numbers under which a gateway gives requests to agents: none may be given out twice."""

from __future__ import annotations

from collections import Counter

from controlplane.gateway.entries import Entry
from tests.faults.site import Site


class Dispatches:
    """Listens to every dispatch number that the gateway's journal gives out."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._given: Counter[tuple[str, int]] = Counter()
        journal = site.gateway.journal
        self._journal, self._issue = journal, journal._issue
        site.loop.call(setattr, journal, "_issue", self._listen)

    def _listen(self, entry: Entry) -> int:
        number = self._issue(entry)
        self._given[(entry.request_id, number)] += 1
        return number

    def given_twice(self) -> int:
        return sum(count - 1 for count in self._given.values())

    def close(self) -> None:
        self._site.loop.call(setattr, self._journal, "_issue", self._issue)
