"""The last fifteen minutes of each instance and class, in memory. Pure: ``now`` is given."""

from __future__ import annotations

from collections import deque
from typing import Any

Json = dict[str, Any]
Point = list[float | None]

INTERVAL_S = 2.0
KEPT_S = 15 * 60
KEPT_POINTS = int(KEPT_S / INTERVAL_S)
INSTANCE_FIELDS = ("at", "used_share", "freeness", "running", "waiting", "step_ms", "preemptions_total")
CLASS_FIELDS = ("at", "ttft_attained", "tpot_attained", "ttft_p99_ms")


class History:
    """Rings of samples; a silent subject gets ``None`` values, not its last ones."""

    def __init__(self) -> None:
        self._rings: dict[tuple[str, str], deque[Point]] = {}
        self._next_s = 0.0

    def sample(self, *, now: float, instances: list[Json], classes: list[Json], stale_s: float) -> bool:
        """Take a sample when one is due; returns whether it was."""
        if now < self._next_s:
            return False
        self._next_s = now + INTERVAL_S
        for instance in instances:
            fresh = instance["heard_at"] is not None and now - instance["heard_at"] < stale_s
            self._append("instance", instance["id"], instance_point(instance, now=now, fresh=fresh))
        for row in classes:
            self._append("class", row["name"], [round(now, 1), *(row[name] for name in CLASS_FIELDS[1:])])
        return True

    def points(self, kind: str, key: str) -> list[Point]:
        return list(self._rings.get((kind, key), ()))

    def forget(self, kind: str, key: str) -> None:
        self._rings.pop((kind, key), None)

    def _append(self, kind: str, key: str, point: Point) -> None:
        ring = self._rings.setdefault((kind, key), deque(maxlen=KEPT_POINTS))
        ring.append(point)


def instance_point(instance: Json, *, now: float, fresh: bool) -> Point:
    if not fresh or instance["total_blocks"] is None:
        return [round(now, 1), *([None] * (len(INSTANCE_FIELDS) - 1))]
    used = instance["used_blocks"] / max(1, instance["total_blocks"])
    return [round(now, 1), round(used, 4), *(instance[name] for name in INSTANCE_FIELDS[2:])]
