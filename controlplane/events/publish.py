"""Send live events on commit: to the Redis channel ``events``, read by every console process.

Delivery is at most once and never stands in the way of the write that caused
it: without Redis the event is dropped and logged, and the dashboards heal by
reading the state afresh.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.db import transaction

from controlplane import redis_client
from controlplane.events.schema import Event, encode

CHANNEL = "events"
PUBLISH_TIMEOUT_S = 0.5

logger = logging.getLogger(__name__)


def publish(*events: Event) -> None:
    """Send the events when the surrounding transaction commits; at once where there is none."""
    if events:
        transaction.on_commit(lambda: send(events))


def send(events: Iterable[Event]) -> bool:
    """Send now, in one round trip; False when Redis did not take them."""
    try:
        pipeline = redis_client.shared(timeout_s=PUBLISH_TIMEOUT_S).pipeline(transaction=False)
        for event in events:
            pipeline.publish(redis_client.key(CHANNEL), encode(event))
        pipeline.execute()
    except (redis_client.RedisError, OSError) as error:
        logger.warning("live events dropped: Redis %s", type(error).__name__)
        return False
    return True
