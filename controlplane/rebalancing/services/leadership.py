"""The loop's own row, and how long history is kept."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from controlplane.rebalancing.models import LoopState, RebalanceRound, RequestMigration


@transaction.atomic
def take_epoch(*, reported: int, leader: str, now: datetime) -> int:
    """The epoch of a new leader: one more than the row's and than any that agents report."""
    state, _ = LoopState.objects.select_for_update().get_or_create(pk=LoopState.SINGLETON_ID)
    epoch = state.raise_epoch(reported=reported, leader=leader, now=now)
    state.save(update_fields=["epoch", "leader", "taken_at"])
    return epoch


def outcomes_cursor() -> str:
    """Up to where outcomes are in the rows."""
    state, _ = LoopState.objects.get_or_create(pk=LoopState.SINGLETON_ID)
    return state.outcomes_cursor


def keep_outcomes_cursor(cursor: str) -> None:
    LoopState.objects.filter(pk=LoopState.SINGLETON_ID).update(outcomes_cursor=cursor)


def delete_history_before(moment: datetime) -> dict[str, int]:
    """Retention: forget rounds and finished migrations older than ``moment``; returns how many of each."""
    migrations, _ = RequestMigration.objects.filter(finished_at__lt=moment).delete()
    rounds, _ = RebalanceRound.objects.filter(taken_at__lt=moment).delete()
    return {"migrations": migrations, "rounds": rounds}
