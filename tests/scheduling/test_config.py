from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.scheduling.config import (
    POLICY_NAMES,
    ConfigError,
    ReschedulingConfig,
    ScalingConfig,
    SchedulingConfig,
)
from controlplane.scheduling.policies import POLICIES


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_survives_json(policy: str) -> None:
    config = SchedulingConfig.for_policy(policy, queue={"beta_s_per_token": 0.5})
    assert SchedulingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.queue.beta_s_per_token == 0.5


def test_every_name_has_a_policy_and_every_policy_a_name() -> None:
    assert set(POLICIES) == set(POLICY_NAMES)
    assert all(POLICIES[name].name == name for name in POLICY_NAMES)


def test_presets_hold_where_nothing_is_said() -> None:
    ours = SchedulingConfig.for_policy("llumdeck", rescheduling={"max_requests": 3})
    assert ours.rescheduling.source_threshold_tokens > ReschedulingConfig().source_threshold_tokens
    assert ours.rescheduling.max_requests == 3


BAD: list[tuple[Any, str, str]] = [
    ({"policy": "best"}, "policy", "one of"),
    ([], "config", "mapping"),
    ({"speed": 1}, "speed", "unknown"),
    ({"queue": {"bta": 1}}, "queue.bta", "unknown"),
    ({"queue": 3}, "queue", "mapping"),
    ({"dispatch": {"watermark_share": 0.9}}, "dispatch.watermark_share", "from 0 to 0.5"),
    ({"dispatch": {"watermark_share": "much"}}, "dispatch.watermark_share", "a number"),
    ({"dispatch": {"watermark_share": float("nan")}}, "dispatch.watermark_share", "a number"),
    ({"dispatch": {"in_flight_accounting": 1}}, "dispatch.in_flight_accounting", "true, false or null"),
    ({"queue": {"rehome": "yes"}}, "queue.rehome", "true or false"),
    ({"queue": {"max_skips": 1.5}}, "queue.max_skips", "whole number"),
    ({"queue": {"max_skips": True}}, "queue.max_skips", "whole number"),
    ({"rescheduling": {"request_order": "biggest"}}, "rescheduling.request_order", "one of"),
    (
        {"rescheduling": {"source_threshold_tokens": 500.0}},
        "rescheduling.destination_threshold_tokens",
        "at least source_threshold_tokens",
    ),
    ({"scaling": {"min_instances": 20}}, "scaling.max_instances", "at least min_instances"),
    ({"scaling": {"low_freeness_tokens": 960.0}}, "scaling.high_freeness_tokens", "above"),
]


@pytest.mark.parametrize(("data", "field", "words"), BAD)
def test_bad_input_names_field_and_range(data: Any, field: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        SchedulingConfig.from_dict(data)
    assert caught.value.field == field
    assert str(caught.value).startswith(field)


def test_parts_check_themselves() -> None:
    with pytest.raises(ConfigError):
        ScalingConfig(interval_s=0.0)
