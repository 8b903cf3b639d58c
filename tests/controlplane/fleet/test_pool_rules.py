"""What a pool may say, against those who take it at its word."""

from __future__ import annotations

import msgspec
import pytest
from django.core.exceptions import ValidationError

from controlplane.fleet import pool_rules, services
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


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"engine_args": {"model": "x"}}, "engine_args"),
        ({"engine_args": ["x"]}, "engine_args"),
        ({"engine_args": {"--tp": 1}}, "engine_args"),
        ({"migration_args": {"copy_share": 0}}, "migration_args"),
        ({"migration_args": {"copy_bytes_per_s": 5}}, "migration_args"),
        ({"migration_args": {"max_stages": 2.5}}, "migration_args"),
        ({"migration_args": {"migration_slots": True}}, "migration_args"),
        ({"migration_args": {"transfer": "pigeon"}}, "migration_args"),
        ({"migration_args": {"host": "0.0.0.0"}}, "migration_args"),
        ({"resources": {"num_gpus": -1}}, "resources"),
        ({"resources": {"GPU": 1}}, "resources"),
        ({"resources": {"num_cpus": "two"}}, "resources"),
        ({"node_labels": {"zone": 1}}, "node_labels"),
        ({"python": "python3"}, "python"),
        ({"kv_memory_bytes": 5}, "kv_memory_bytes"),
    ],
)
def test_what_cannot_stand_in_a_pool_is_refused_by_field(chat_pool, changes, field):
    with pytest.raises(ValidationError) as caught:
        services.change_pool(pool=chat_pool, actor="ann", **changes)
    assert field in caught.value.message_dict
