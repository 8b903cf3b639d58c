from __future__ import annotations

import pytest

from controlplane.scheduling import filters
from controlplane.scheduling.config import SchedulingConfig
from tests.scheduling.clusters import instance, request

CONFIG = SchedulingConfig()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"draining": True}, "draining"),
        ({"accepting": False}, "not_accepting"),
        ({"age_s": 11.0}, "stale"),
        ({"served_model": "other"}, "other_model"),
        ({"served_model": "mine"}, ""),
        ({"capacity_tokens": 64}, "too_small"),
    ],
)
def test_says_why_an_instance_falls(changes: dict[str, object], reason: str) -> None:
    asked = request(served_model="mine")
    assert filters.for_request(instance(**changes), asked, CONFIG) == reason


def test_keep_returns_the_kept_and_why_the_others_fell() -> None:
    kept, fell = filters.keep(
        [instance("a"), instance("b", draining=True), instance("c", accepting=False)], filters.accepting
    )
    assert [each.instance_id for each in kept] == ["a"]
    assert fell == {"b": "draining", "c": "not_accepting"}


def test_migrations_in_and_out_share_the_slots() -> None:
    busy = instance(migrations_in=1, migrations_out=1, migration_slots=2)
    assert filters.has_migration_slot(busy) == "no_migration_slot"
    assert filters.has_migration_slot(busy, slots=3) == ""


def test_an_old_report_says_nothing_about_now() -> None:
    assert filters.fresh(instance(age_s=1.0), 0.5) == "stale"
    assert filters.fresh(instance(age_s=0.5), 0.5) == ""
