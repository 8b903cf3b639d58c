from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from controlplane.rebalancing import selectors, services
from controlplane.rebalancing.models import PolicyVersion
from controlplane.records.models import AuditEntry
from controlplane.scheduling.config import SchedulingConfig
from tests.controlplane import builders
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db


def test_a_pool_without_a_policy_has_the_defaults(chat_pool):
    assert selectors.active_scheduling_config("chat") == SchedulingConfig.recommended()
    assert [(each.pool, each.version) for each in selectors.pool_policies()] == [("chat", 0)]


def test_an_activated_version_replaces_the_one_before(chat_pool):
    first = services.create_policy_version(pool=chat_pool, config={"policy": "llumdeck"}, actor="ann")
    second = services.create_policy_version(pool=chat_pool, config={"policy": "round_robin"}, actor="ann")
    services.activate_policy_version(version=first, actor="ann")
    assert selectors.active_scheduling_config("chat").policy == "llumdeck"
    services.activate_policy_version(version=second, actor="ann", reason="compare")
    services.activate_policy_version(version=second, actor="ann", reason="again")
    assert selectors.active_scheduling_config("chat").policy == "round_robin"
    assert list(PolicyVersion.objects.filter(active=True)) == [second]
    assert AuditEntry.objects.filter(action="policy.activate").count() == 3


def test_a_version_keeps_every_number_so_that_new_defaults_do_not_change_it(chat_pool):
    version = services.create_policy_version(pool=chat_pool, config={}, actor="ann")
    assert version.config == SchedulingConfig.recommended().to_dict()
    assert version.scheduling_config() == SchedulingConfig.recommended()


@pytest.mark.parametrize(
    "config",
    [{"policy": "magic"}, {"nonsense": 1}, {"rescheduling": {"max_requests": 0}}, {"dispatch": 5}],
)
def test_a_bad_configuration_is_refused_with_the_cores_sentence(chat_pool, config):
    with pytest.raises(ValidationError) as caught:
        services.create_policy_version(pool=chat_pool, config=config, actor="ann")
    assert "config" in caught.value.message_dict
    assert not PolicyVersion.objects.exists()


def test_versions_count_up_per_pool(chat_pool):
    other = builders.pool("code")
    made = [
        services.create_policy_version(pool=each, config={}, actor="ann").version
        for each in (chat_pool, chat_pool, other)
    ]
    assert made == [1, 2, 1]


def test_the_database_itself_allows_one_active_version(chat_pool):
    for _ in range(2):
        services.create_policy_version(pool=chat_pool, config={}, actor="ann")
    with pytest.raises(IntegrityError), transaction.atomic():
        PolicyVersion.objects.update(active=True)


def test_reading_all_policies_costs_the_same_whatever_the_number_of_pools(django_assert_num_queries):
    for number in range(5):
        builders.pool(f"pool-{number}")
    with django_assert_num_queries(2):
        selectors.pool_policies()


# --------------------------------------------------------------- taking back, comparing, files


def made(pool, **config):
    return services.create_policy_version(pool=pool, config=config, actor="ann")


def active(pool) -> int:
    row = selectors.active_policy(pool.name)
    assert row is not None
    return row.version


def test_rollbacks_lead_back_step_by_step_to_the_first(chat_pool):
    for name in ("llumnix", "llumdeck", "round_robin"):
        services.activate_policy_version(version=made(chat_pool, policy=name), actor="ann")
    walked = [services.rollback_policy(pool=chat_pool, actor="bob").version for _ in range(2)]
    assert (walked, active(chat_pool)) == ([2, 1], 1)
    with pytest.raises(services.PolicyError, match="first that was activated"):
        services.rollback_policy(pool=chat_pool, actor="bob")
    entry = AuditEntry.objects.filter(action="policy.rollback").first()
    assert (entry.actor, entry.before, entry.after) == ("bob", {"active": 2}, {"active": 1})


def test_a_pool_without_an_active_version_has_nothing_to_take_back(chat_pool):
    with pytest.raises(services.PolicyError, match="no active policy"):
        services.rollback_policy(pool=chat_pool, actor="bob")


def test_a_check_tells_every_bad_part_and_stores_nothing(chat_pool):
    check = services.check_policy({"queue": {"max_skips": -1}, "dispatch": {"odd": 1}, "policy": "llumdeck"})
    assert not check.valid
    assert {each["field"] for each in check.problems} == {"queue.max_skips", "dispatch.odd"}
    assert services.check_policy({"policy": "llumdeck"}).config["rescheduling"]["request_order"] == "longest"
    assert not PolicyVersion.objects.exists()


def test_a_diff_names_what_differs(chat_pool):
    before = {"policy": "llumdeck"}
    rows = services.diff_policies(
        before, {**before, "queue": {"rehome": False}, "scaling": {"enabled": True}}
    )
    assert [(row["path"], row["before"], row["after"]) for row in rows] == [
        ("queue.rehome", True, False),
        ("scaling.enabled", False, True),
    ]
    assert services.diff_policies(SchedulingConfig.recommended(), {}) == []


def test_what_is_exported_can_be_imported_into_another_pool(chat_pool):
    version = made(chat_pool, policy="llumdeck", queue={"hole_after_s": 3.5})
    text = services.export_policy(version)
    other = builders.pool("code")
    copy = services.import_policy(pool=other, text=text, actor="bob")
    assert (copy.config, copy.active, copy.comment) == (version.config, False, "from chat/1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: llumdeck/policy\nconfig: {policy: magic}", "policy: must be one of"),
        ("kind: llumdeck/policy\nconfg: {}", "confg: unknown"),
        ("kind: other", "kind: must be"),
        ("- 1", "kind: must be"),
        (
            "kind: llumdeck/policy\nconfig: {queue: {rehome: true, rehome: false}}",
            "line 2: rehome is .* twice",
        ),
        ("kind: [unclosed", "line 1"),
        ("a: &x [1]\nb: *x", "line 2: references"),
        ("[" * 40 + "]" * 40, "nested deeper"),
        ("x" * 70_000, "larger than 64 KiB"),
        ("kind: llumdeck/policy\nconfig: !!python/object/apply:os.system [id]", "line 2"),
    ],
)
def test_a_bad_file_is_refused_where_it_is_bad(chat_pool, text, says):
    with pytest.raises(services.PolicyError, match=says):
        services.import_policy(pool=chat_pool, text=text, actor="bob")
    assert not PolicyVersion.objects.exists()


def test_a_preview_asks_the_same_core_on_the_live_snapshot(live_redis, chat_pool):
    for name in ("chat-1", "chat-2"):
        builders.instance(name, of=chat_pool)
    now = NOW + timedelta(seconds=0.5)
    builders.report(live_redis, builders.crowded("chat-1"), builders.status("chat-2"))
    preview = services.preview_policy(pool=chat_pool, config={"policy": "round_robin"}, now=now).to_dict()
    assert preview["decisions"] == ()
    ((now_decided),) = preview["decisions_now"]
    assert now_decided["decision"]["source_id"] == "chat-1"
    assert now_decided["explanation"]["rule"] == "load"
    assert "policy" in [row["path"] for row in preview["diff"]]
    assert {row["instance_id"]: row["freeness_now_tokens"] < 0 for row in preview["instances"]} == {
        "chat-1": True,
        "chat-2": False,
    }
    json.dumps(preview)
    assert not PolicyVersion.objects.exists()


# --------------------------------------------------------------- for a time only


def test_what_is_activated_for_a_time_gives_way_to_what_was_before(chat_pool):
    first, second = made(chat_pool, policy="llumdeck"), made(chat_pool, policy="llumnix")
    services.activate_policy_version(version=first, actor="ann")
    services.activate_policy_version(version=second, actor="ann", for_s=600)
    now = PolicyVersion.objects.get(pk=second.pk).activated_at
    assert services.end_temporary_policies(now=now + timedelta(seconds=599)) == 0
    assert active(chat_pool) == 2
    assert services.end_temporary_policies(now=now + timedelta(seconds=601)) == 1
    assert active(chat_pool) == 1
    assert selectors.active_policy("chat").active_until is None
    entry = AuditEntry.objects.filter(action="policy.expire").get()
    assert (entry.actor, entry.before, entry.after) == ("system:policy", {"active": 2}, {"active": 1})
    assert services.end_temporary_policies(now=now + timedelta(days=1)) == 0


def test_two_in_a_row_for_a_time_lead_back_to_the_one_that_stays(chat_pool):
    first, second, third = (made(chat_pool, policy=name) for name in ("llumdeck", "llumnix", "round_robin"))
    services.activate_policy_version(version=first, actor="ann")
    services.activate_policy_version(version=second, actor="ann", for_s=60)
    services.activate_policy_version(version=third, actor="ann", for_s=60)
    services.end_temporary_policies(now=NOW + timedelta(days=3650))
    assert active(chat_pool) == 1


def test_what_is_active_for_a_time_stays_when_it_is_activated_again(chat_pool):
    first, second = made(chat_pool, policy="llumdeck"), made(chat_pool, policy="llumnix")
    services.activate_policy_version(version=first, actor="ann")
    services.activate_policy_version(version=second, actor="ann", for_s=60)
    services.activate_policy_version(version=second, actor="ann")
    assert services.end_temporary_policies(now=NOW + timedelta(days=3650)) == 0
    assert active(chat_pool) == 2
    assert services.rollback_policy(pool=chat_pool, actor="ann").version == 1


def test_where_nothing_was_active_the_recommended_numbers_come_back(chat_pool):
    services.activate_policy_version(version=made(chat_pool, policy="llumnix"), actor="ann", for_s=60)
    assert services.end_temporary_policies(now=NOW + timedelta(days=3650)) == 1
    assert selectors.active_policy("chat") is None
