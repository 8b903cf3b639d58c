"""Requests that asked for more than their key may have: for the audit list, counted, not one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from controlplane.gateway.admission import Caller

EVERY_S = 60.0
"""One entry per key and wish in so long; the first one at once."""
MAX_GROUPS = 10_000


@dataclass(frozen=True, slots=True)
class Excess:
    """So many requests of one key that asked for one thing beyond its rights."""

    tenant_slug: str
    key_id: int
    key_prefix: str
    asked: str
    served: str
    """Empty: refused."""
    times: int


WriteExcess = Callable[[Sequence[Excess]], object]


@dataclass(slots=True)
class _Group:
    caller: Caller
    served: str
    times: int = 0
    told_s: float = float("-inf")


class AbuseLog:
    """``note`` on the event loop; whoever writes takes what is due."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._groups: dict[tuple[int, str, str], _Group] = {}

    def note(self, caller: Caller, *, refused: bool) -> None:
        served = "" if refused else caller.slo_class
        key = (caller.identity.key_id, caller.excess, served)
        if key not in self._groups and len(self._groups) >= MAX_GROUPS:
            return
        self._groups.setdefault(key, _Group(caller, served)).times += 1

    def take(self) -> list[Excess]:
        """What is due; groups that were silent for a while are forgotten."""
        now_s = self._clock()
        due = []
        for key, group in list(self._groups.items()):
            if now_s - group.told_s < EVERY_S:
                continue
            if not group.times:
                del self._groups[key]
                continue
            due.append(_excess(group))
            group.times, group.told_s = 0, now_s
        return due

    def put_back(self, excesses: Sequence[Excess]) -> None:
        """They could not be written: due again at once."""
        for each in excesses:
            group = self._groups.get((each.key_id, each.asked, each.served))
            if group is not None:
                group.times, group.told_s = group.times + each.times, float("-inf")


def _excess(group: _Group) -> Excess:
    identity = group.caller.identity
    return Excess(
        tenant_slug=identity.tenant_slug,
        key_id=identity.key_id,
        key_prefix=identity.key_prefix,
        asked=group.caller.excess,
        served=group.served,
        times=group.times,
    )
