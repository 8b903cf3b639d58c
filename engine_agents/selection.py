"""Which requests leave an instance first, and why. Pure: the llumlet's own share of the policy.

Source: Llumnix (OSDI'24), section 4.4: "prefers the requests with lower priorities and
shorter sequence lengths"; the authors' artifact takes the latest arrival instead. Both
are orders here. A load is levelled with requests in their decoding stage only; where
all must leave (a drain) or one is named, those that wait or are in their prefill go too.
One that is arriving, frozen or already leaving never does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

ORDERS = ("shortest", "latest", "longest", "cover")


@dataclass(frozen=True, slots=True)
class Candidate:
    """One request on the source, as its engine knows it."""

    engine_id: str
    request_id: str
    state: str
    """As in ``RequestInfo``; only ``running`` may leave."""
    rank: int
    """Scheduling priority of its class: the highest number leaves first."""
    tokens: int
    """Context so far: what the destination must have room for now."""
    generated_tokens: int
    arrived_at_s: float
    leaving: bool = False
    """Already has a migration under way."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One request that shall leave, and why (for people)."""

    engine_id: str
    request_id: str
    tokens: int
    why: str


def movable(candidate: Candidate, any_stage: bool = False) -> str:
    """Why this request cannot leave now; "" when it can."""
    waits = any_stage and candidate.state in ("waiting", "preempted")
    if candidate.state != "running" and not waits:
        return candidate.state
    if candidate.leaving:
        return "already leaving"
    return "" if any_stage or candidate.generated_tokens > 0 else "still in prefill"


Key = Callable[[Candidate], tuple[float, ...]]


def _order_key(order: str, need_tokens: int) -> Key:
    keys: dict[str, Key] = {
        "shortest": lambda c: (-c.rank, c.tokens),
        "latest": lambda c: (-c.rank, -c.arrived_at_s),
        "longest": lambda c: (-c.rank, -c.tokens),
        "cover": lambda c: (-c.rank, c.tokens < need_tokens, abs(c.tokens - need_tokens)),
    }
    if order not in keys:
        raise ValueError(f"order must be one of {', '.join(ORDERS)}; got {order!r}")
    return keys[order]


def choose(
    candidates: Iterable[Candidate],
    *,
    budget_tokens: int,
    max_requests: int = 1,
    order: str = "shortest",
    need_tokens: int = 0,
    request_id: str = "",
    spare_rank_below: int | None = None,
    any_stage: bool = False,
) -> tuple[Choice, ...]:
    """The requests that leave, first one first; their tokens together keep the budget.

    ``need_tokens`` belongs to the order ``cover``: the smallest request that covers it is
    first, then the largest below it. ``request_id`` names a manual move: that request and
    no other. Requests of a rank below ``spare_rank_below`` stay (headroom was made for
    them). ``any_stage`` lets waiting requests and prefills leave as well; a named one may
    always. One that exceeds what is left of the budget is passed over. Raises ``ValueError``
    for an unknown order.
    """
    key = _order_key(order, need_tokens)
    if request_id:
        wanted = [c for c in candidates if c.request_id == request_id and not movable(c, any_stage=True)]
        return tuple(
            Choice(c.engine_id, c.request_id, c.tokens, "asked for by an operator") for c in wanted[:1]
        )
    able = [
        c
        for c in candidates
        if not movable(c, any_stage) and (spare_rank_below is None or c.rank >= spare_rank_below)
    ]
    able.sort(key=lambda c: (*key(c), c.engine_id))
    chosen: list[Choice] = []
    left = budget_tokens
    for position, candidate in enumerate(able):
        if len(chosen) == max_requests:
            break
        if candidate.tokens <= left:
            left -= candidate.tokens
            chosen.append(
                Choice(
                    candidate.engine_id,
                    candidate.request_id,
                    candidate.tokens,
                    _why(candidate, order, position),
                )
            )
    return tuple(chosen)


def _why(candidate: Candidate, order: str, passed_over: int) -> str:
    words = {
        "shortest": "shortest",
        "latest": "latest arrived",
        "longest": "longest",
        "cover": "best covers the need",
    }
    skipped = f", after {passed_over} passed over or moved before it" if passed_over else ""
    return f"{words[order]} of rank {candidate.rank} ({candidate.tokens} tokens){skipped}"
