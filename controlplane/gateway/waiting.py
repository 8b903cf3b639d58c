"""What waits at this gateway, in order, and why: for the console and for the loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from controlplane.gateway.live_requests import LiveRequest
from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.ledger import Ledger
from controlplane.scheduling.placement import Queued, desks, refusal
from controlplane.scheduling.queueing import FleetQueue, reserve_tokens
from controlplane.scheduling.snapshot import ClusterSnapshot
from engine_agents.messages import Waiter

MAX_WAITERS = 50
"""So many are told of, beside the one that waits longest."""

REASONS: dict[str, Callable[[int], str]] = {
    "no_room": lambda tokens: f"no instance has room for {tokens:,} tokens",
    "reserve": lambda tokens: "what room there is, is left for the requests that run",
    "prefill_limit": lambda tokens: "instances with room are still reading other prompts",
    "hole": lambda tokens: "the room there is, is kept for a request that waits longer",
    "headroom": lambda tokens: "the room there is, is kept for higher classes",
    "draining": lambda tokens: "instances are being drained",
    "not_accepting": lambda tokens: "instances take no work",
    "stale": lambda tokens: "instances have not reported lately",
    "too_small": lambda tokens: f"no instance can hold {tokens:,} tokens",
}
NEXT = "it is about to start"
NO_INSTANCE = "no instance is linked"


def waiters(
    queue: FleetQueue,
    lives: Mapping[str, LiveRequest],
    snapshot: ClusterSnapshot,
    ledger: Ledger,
    config: SchedulingConfig,
    holes: Mapping[str, str],
    now_s: float,
) -> list[Waiter]:
    """The first of the queue in its order, and the one that waits longest."""
    longest = queue.longest_waiting()
    rows = desks(snapshot.instances, ledger, config, reserve_tokens(queue, config))
    found: list[Waiter] = []
    for position, entry in enumerate(queue, start=1):
        live = lives.get(entry.request.request_id)
        is_longest = longest is not None and entry.request.request_id == longest.request_id
        if live is None or not (position <= MAX_WAITERS or is_longest):
            continue
        reasons = Counter(refusal(desk, entry, config, snapshot.classes, holes) for desk in rows)
        found.append(_waiter(entry, live, position, _why(reasons, entry.tokens, live), now_s))
    return found


def _waiter(entry: Queued, live: LiveRequest, position: int, why: str, now_s: float) -> Waiter:
    caller = live.call.caller
    return Waiter(
        request_id=live.request_id,
        tenant=caller.identity.tenant_slug,
        slo_class=caller.slo_class,
        prompt_tokens=entry.request.prompt_tokens,
        generated_tokens=entry.request.generated_tokens,
        needed_tokens=entry.tokens,
        waiting_s=round(now_s - (live.queued_since_s if live.queued_since_s is not None else now_s), 3),
        position=position,
        why=why,
        recovering=live.lost_at_s is not None,
    )


def _why(reasons: Counter[str], tokens: int, live: LiveRequest) -> str:
    """In words, from how many instances cannot take it for which reason ("" = could now)."""
    if not reasons:
        said = NO_INSTANCE
    elif reasons[""]:
        said = NEXT
    else:
        reason = reasons.most_common(1)[0][0]
        said = REASONS[reason](tokens) if reason in REASONS else reason.replace("_", " ")
    return f"its instance was lost: {said}" if live.lost_at_s is not None else said
