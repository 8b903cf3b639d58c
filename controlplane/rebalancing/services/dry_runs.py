"""What a manual move would meet now; nothing is wished and nothing is moved."""

from __future__ import annotations

import time
from typing import Any

from controlplane.fleet.live_status import read_statuses
from controlplane.fleet.watching import look_at
from controlplane.rebalancing.services.migrations import MoveError, check_wish


def check_move(*, request_id: str, source_id: str, destination_id: str) -> dict[str, Any]:
    """Whether the move can be asked for, and room and need in tokens where they are known.

    Raises ``RedisError``. The need is null until the source's requests were fetched.
    """
    problem = ""
    try:
        check_wish(request_id=request_id, source_id=source_id, destination_id=destination_id)
    except MoveError as error:
        problem = str(error)
    now = time.time()
    free = _free_tokens(destination_id, now)
    need, known = _needed_tokens(source_id, request_id, now)
    if not problem and known and need is None:
        problem = f"request {request_id} does not run on {source_id} now"
    if not problem and need is not None and free is not None and need > free:
        problem = f"{destination_id} has {free} free tokens; the request holds {need}"
    return {
        "possible": not problem,
        "problem": problem,
        "request_id": request_id,
        "source": source_id,
        "destination": destination_id,
        "free_tokens_at_destination": free,
        "needed_tokens": need,
    }


def _free_tokens(instance_id: str, now_s: float) -> int | None:
    for item in read_statuses(now_s):
        status = item.status
        if status.instance_id == instance_id:
            free = status.total_blocks - status.used_blocks - status.reserved_blocks
            return max(0, free) * status.block_size_tokens
    return None


def _needed_tokens(instance_id: str, request_id: str, now_s: float) -> tuple[int | None, bool]:
    """Tokens of the request, and whether the source's requests are known at all."""
    found = look_at([instance_id], wall_s=now_s)[instance_id]
    for item in found or ():
        if item.request_id == request_id:
            return item.prompt_tokens + item.output_tokens, True
    return None, found is not None
