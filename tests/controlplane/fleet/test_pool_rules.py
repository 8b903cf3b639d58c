"""What a pool may say, against those who take it at its word."""

from __future__ import annotations

import msgspec

from controlplane.fleet import pool_rules
from engine_agents.config import AgentConfig
from engine_agents.migration.ways import CHOICES


def test_what_a_pool_may_say_of_moves_is_what_an_agent_can_be_told() -> None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(AgentConfig)}
    said = {name: defaults[name] for name in ("transfer", *pool_rules.MIGRATION_RANGES)}
    pool_rules.check_migration_args(said)
    assert {name: type(value) for name, value in said.items() if name != "transfer"} == {
        name: kind for name, (kind, _, _) in pool_rules.MIGRATION_RANGES.items()
    }
    assert set(pool_rules.WAYS) == set(CHOICES)
