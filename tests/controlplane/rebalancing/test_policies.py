from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from controlplane.rebalancing import selectors, services
from controlplane.rebalancing.models import PolicyVersion
from controlplane.records.models import AuditEntry
from controlplane.scheduling.config import SchedulingConfig
from tests.controlplane import builders

pytestmark = pytest.mark.django_db


def test_a_pool_without_a_policy_has_the_defaults(chat_pool):
    assert selectors.active_scheduling_config("chat") == SchedulingConfig()
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
    assert version.config == SchedulingConfig().to_dict()
    assert version.scheduling_config() == SchedulingConfig()


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
