"""Deciding and remembering; by subject, read as one module."""

from controlplane.rebalancing.services.dry_runs import check_move
from controlplane.rebalancing.services.history import PreemptionCounter, sample_pools
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
from controlplane.rebalancing.services.policies import (
    PolicyCheck,
    PolicyError,
    activate_policy_version,
    check_policy,
    create_policy_version,
    diff_policies,
    end_temporary_policies,
    rollback_policy,
)
from controlplane.rebalancing.services.policy_files import export_policy, import_policy
from controlplane.rebalancing.services.previews import (
    PolicyPreview,
    RoundReplay,
    live_snapshot,
    preview_policy,
    replay_round,
)
from controlplane.rebalancing.services.rounds import plan_round, record_rounds, run_round
from controlplane.rebalancing.services.scaling import carry_out_scaling
from controlplane.rebalancing.services.what_if import (
    cancel_what_if,
    carry_out_what_if,
    close_lost_what_ifs,
    start_what_if,
)
from controlplane.rebalancing.services.what_if_traces import (
    QuotaError,
    WhatIfError,
    delete_trace,
    delete_traces_before,
    record_trace,
    upload_trace,
)

__all__ = [
    "MoveError",
    "PolicyCheck",
    "PolicyError",
    "PolicyPreview",
    "PreemptionCounter",
    "QuotaError",
    "RoundReplay",
    "WhatIfError",
    "activate_policy_version",
    "apply_outcomes",
    "cancel_what_if",
    "carry_out_scaling",
    "carry_out_what_if",
    "check_move",
    "check_policy",
    "close_lost_migrations",
    "close_lost_what_ifs",
    "create_policy_version",
    "delete_history_before",
    "delete_trace",
    "delete_traces_before",
    "diff_policies",
    "end_temporary_policies",
    "export_policy",
    "import_policy",
    "keep_outcomes_cursor",
    "live_snapshot",
    "manual_command",
    "outcomes_cursor",
    "plan_round",
    "preview_policy",
    "record_manual_answers",
    "record_rounds",
    "record_trace",
    "replay_round",
    "request_migration",
    "rollback_policy",
    "run_round",
    "sample_pools",
    "start_what_if",
    "take_epoch",
    "upload_trace",
]
