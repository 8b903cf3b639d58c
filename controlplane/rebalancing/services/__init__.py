"""Deciding and remembering; by subject, read as one module."""

from controlplane.rebalancing.services.leadership import (
    delete_history_before,
    keep_outcomes_cursor,
    outcomes_cursor,
    take_epoch,
)
from controlplane.rebalancing.services.migrations import (
    MoveError,
    apply_outcomes,
    close_lost_migrations,
    manual_command,
    record_manual_answers,
    request_migration,
)
from controlplane.rebalancing.services.policies import activate_policy_version, create_policy_version
from controlplane.rebalancing.services.rounds import plan_round, record_rounds, run_round
from controlplane.rebalancing.services.scaling import carry_out_scaling

__all__ = [
    "MoveError",
    "activate_policy_version",
    "apply_outcomes",
    "carry_out_scaling",
    "close_lost_migrations",
    "create_policy_version",
    "delete_history_before",
    "keep_outcomes_cursor",
    "manual_command",
    "outcomes_cursor",
    "plan_round",
    "record_manual_answers",
    "record_rounds",
    "request_migration",
    "run_round",
    "take_epoch",
]
