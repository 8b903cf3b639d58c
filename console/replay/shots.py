"""From a workload to what is sent when: pure, seeded."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.simulator.workloads import SimRequest, Workload, scale, with_shares

LARGEST_SHARE_OF_CONTEXT = 0.95
SAFE_TOKEN_IDS = range(32, 256)
"""In the vocabulary of every model, and plain text in most: prompts have exactly the asked length."""


class ReplayError(ValueError):
    """The replay cannot be done as asked for; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One request to be sent."""

    number: int
    at_s: float
    """After the start of the replay."""
    prompt_tokens: int
    output_tokens: int
    slo_class: str

    def prompt(self, seed: int) -> list[int]:
        """Token ids, other ones for every request, so that no prefix cache helps."""
        chosen = random.Random(f"{seed}:{self.number}")  # noqa: S311
        return chosen.choices(SAFE_TOKEN_IDS, k=self.prompt_tokens)


def plan_shots(
    workload: Workload,
    *,
    speed: float,
    duration_s: float,
    context_tokens: int,
    length_scale: float = 0.0,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[Shot]:
    """Requests of the first ``duration_s`` of the replay, ``speed`` times as fast as the workload.

    Lengths are multiplied by ``length_scale``; by default with what brings the longest
    request of the workload into ``context_tokens``, and never up. Raises :class:`ReplayError`.
    """
    if not 0 < speed < 1e6:
        raise ReplayError(f"--speed must be above 0, got {speed:g}")
    if not 0 < duration_s < 1e7:
        raise ReplayError(f"--duration must be above 0 seconds, got {duration_s:g}")
    factor = length_scale or _scale_into(workload, context_tokens)
    scaled = scale(workload, rate=speed, length=factor)
    if shares:
        scaled = with_shares(scaled, shares, seed)
    limit = int(context_tokens * LARGEST_SHARE_OF_CONTEXT)
    shots = [_shot(request, limit) for request in scaled.requests if request.arrival_s <= duration_s]
    return sorted(shots, key=lambda shot: shot.at_s)


def _scale_into(workload: Workload, context_tokens: int) -> float:
    longest = max(request.prompt_tokens + request.output_tokens for request in workload.requests)
    return min(1.0, LARGEST_SHARE_OF_CONTEXT * context_tokens / longest)


def _shot(request: SimRequest, limit: int) -> Shot:
    output = min(request.output_tokens, limit - 1)
    return Shot(
        number=request.request_id,
        at_s=request.arrival_s,
        prompt_tokens=min(request.prompt_tokens, limit - output),
        output_tokens=output,
        slo_class=request.slo_class,
    )


def parse_shares(text: str) -> dict[str, float]:
    """``interactive=0.3,standard=0.5,batch=0.2``. Raises :class:`ReplayError`."""
    shares: dict[str, float] = {}
    for part in filter(None, (word.strip() for word in text.split(","))):
        name, _, number = part.partition("=")
        try:
            shares[name.strip()] = float(number)
        except ValueError:
            raise ReplayError(f"--classes: {part!r} is not NAME=SHARE, e.g. interactive=0.3") from None
        if shares[name.strip()] < 0:
            raise ReplayError(f"--classes: the share of {name.strip()} must be 0 or more, got {number}")
    if shares and sum(shares.values()) <= 0:
        raise ReplayError("--classes: at least one share must be above 0")
    return shares
