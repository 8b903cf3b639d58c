from __future__ import annotations

import pytest
from django.db import transaction

from controlplane.events import publish
from controlplane.events.schema import InstanceChanged, decode
from tests.controlplane.builders import NOW

EVENT = InstanceChanged.of(at=NOW, instance_id="chat-1", state="ready")


def listen(client):
    subscription = client.pubsub()
    subscription.subscribe("llumdeck:events")
    assert subscription.get_message(timeout=10)["type"] == "subscribe"
    return subscription


@pytest.mark.django_db(transaction=True)
def test_events_leave_on_commit_in_order(live_redis):
    subscription = listen(live_redis)
    second = InstanceChanged.of(at=NOW, instance_id="chat-2", state="ready")
    with transaction.atomic():
        publish.publish(EVENT, second)
        assert subscription.get_message(timeout=0.2) is None
    heard = [decode(subscription.get_message(timeout=10)["data"]) for _ in range(2)]
    assert heard == [EVENT, second]


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_told(live_redis):
    subscription = listen(live_redis)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        publish.publish(EVENT)
        raise ZeroDivisionError
    assert subscription.get_message(timeout=0.2) is None


def test_without_redis_events_are_dropped_and_nothing_else_happens(settings, caplog):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    assert publish.send([EVENT]) is False
    assert "live events dropped" in caplog.text
