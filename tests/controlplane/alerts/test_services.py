from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from controlplane.alerts import services
from controlplane.alerts.facts import Facts
from controlplane.alerts.models import Alert, AlertRule, Delivery, Webhook
from controlplane.events.schema import AlertChanged
from controlplane.records.models import AuditEntry
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db

LONG = Facts(longest_wait_s={"batch": 99.0}, loop_silent_s=0.0)
CALM = Facts(loop_silent_s=0.0)


@pytest.fixture
def rule(sent_events) -> AlertRule:
    AlertRule.objects.exclude(name="queue-time").update(enabled=False)
    return AlertRule.objects.get(name="queue-time")


@pytest.fixture
def hook(rule) -> Webhook:
    return Webhook.objects.create(
        name="pager", url="https://192.0.2.1/", salt="s", created_by="t", created_at=NOW
    )


def at(seconds: float):
    return NOW + timedelta(seconds=seconds)


def test_an_alert_fires_only_after_its_condition_held_and_ends_with_it(rule, hook, sent_events):
    assert services.evaluate(LONG, now=at(0)) == []
    assert Alert.objects.get().state == "pending"
    assert [each.state for each in services.evaluate(LONG, now=at(30))] == ["firing"]
    assert services.evaluate(LONG, now=at(40)) == []
    assert [each.state for each in services.evaluate(CALM, now=at(50))] == ["resolved"]
    assert [each.event for each in Delivery.objects.order_by("id")] == ["alert.firing", "alert.resolved"]
    assert [(each.state, each.subject) for each in sent_events if isinstance(each, AlertChanged)] == []
    actions = AuditEntry.objects.order_by("id").values_list("actor", "action")
    assert list(actions) == [("system:alerts", "alert.firing"), ("system:alerts", "alert.resolved")]


def test_live_events_follow_the_commit(rule, sent_events, django_capture_on_commit_callbacks):
    services.evaluate(LONG, now=at(0))
    with django_capture_on_commit_callbacks(execute=True):
        services.evaluate(LONG, now=at(30))
    told = [each for each in sent_events if isinstance(each, AlertChanged)]
    assert [(each.state, each.subject) for each in told] == [("firing", "batch")]


def test_a_condition_that_ended_before_anybody_was_told_leaves_nothing(rule, hook):
    services.evaluate(LONG, now=at(0))
    assert services.evaluate(CALM, now=at(10)) == []
    assert not Alert.objects.exists()
    assert not Delivery.objects.exists()


def test_while_redis_is_away_live_alerts_neither_begin_nor_end(rule):
    services.evaluate(LONG, now=at(0))
    services.evaluate(LONG, now=at(30))
    assert services.evaluate(Facts(blind=True), now=at(40)) == []
    assert Alert.objects.get().state == "firing"


def test_a_rule_that_was_disabled_ends_its_alerts(rule):
    services.evaluate(LONG, now=at(0))
    services.evaluate(LONG, now=at(30))
    services.change_rule(rule=rule, enabled=False, actor="ada")
    assert [each.state for each in services.evaluate(LONG, now=at(40))] == ["resolved"]


def test_silenced_alerts_are_kept_and_nobody_is_told(rule, hook):
    now = timezone.now()
    services.add_silence(
        rule=rule, subject="batch", ends_at=now + timedelta(hours=1), actor="o", reason="known"
    )
    services.evaluate(LONG, now=now)
    services.evaluate(LONG, now=now + timedelta(seconds=30))
    assert Alert.objects.get().state == "firing"
    assert not Delivery.objects.exists()


def test_webhooks_hear_only_of_what_they_asked_for(rule, hook):
    services.change_webhook(webhook=hook, least_severity="critical", actor="ada")
    services.evaluate(LONG, now=at(0))
    services.evaluate(LONG, now=at(30))
    assert not Delivery.objects.exists()


def test_the_first_acknowledgement_stays_named(rule):
    services.evaluate(LONG, now=at(0))
    alert = Alert.objects.get()
    services.acknowledge(alert=alert, actor="olga", reason="on it")
    services.acknowledge(alert=alert, actor="otto")
    assert Alert.objects.get().acknowledged_by == "olga"
    services.evaluate(LONG, now=at(30))
    services.evaluate(CALM, now=at(40))
    alert.refresh_from_db()
    with pytest.raises(services.AlertError, match="is over"):
        services.acknowledge(alert=alert, actor="olga")


@pytest.mark.parametrize(
    ("hours", "reason", "field"), [(-1, "x", "ends_at"), (24 * 32, "x", "ends_at"), (1, " ", "reason")]
)
def test_a_silence_has_an_end_and_a_reason(rule, hours, reason, field):
    with pytest.raises(ValidationError) as caught:
        services.add_silence(rule=rule, subject="", ends_at=timezone.now() + timedelta(hours=hours),
                             actor="o", reason=reason)  # fmt: skip
    assert field in caught.value.message_dict


def test_rules_are_judged_when_they_are_written(rule):
    with pytest.raises(ValidationError, match="must be from"):
        services.change_rule(rule=rule, parameters={"seconds": 0}, actor="ada")


def test_changes_are_audited_with_what_was_before(rule):
    services.change_rule(rule=rule, for_s=5, actor="ada", reason="too slow")
    entry = AuditEntry.objects.get(action="alert_rule.change")
    assert (entry.before, entry.after, entry.reason) == ({"for_s": 30}, {"for_s": 5}, "too slow")


def test_every_default_rule_is_valid(sent_events):
    rows = list(AlertRule.objects.all())
    assert len(rows) >= 9
    for row in rows:
        row.full_clean()
