"""When is a dead child started again, and when is it given up? Pure; time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
GIVE_UP_AFTER = 5
WINDOW_S = 60.0


@dataclass(slots=True)
class Restarts:
    """The deaths of one child. More than five within a minute are a crash loop."""

    deaths_at_s: list[float] = field(default_factory=list)

    def pause_after_death(self, now_s: float) -> float | None:
        """Seconds to wait before the next start, doubling with each recent death; ``None``: give up."""
        self.deaths_at_s = [at_s for at_s in self.deaths_at_s if now_s - at_s < WINDOW_S] + [now_s]
        recent = len(self.deaths_at_s)
        if recent > GIVE_UP_AFTER:
            return None
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (recent - 1)))
