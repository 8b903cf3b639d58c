"""What tests of the control plane share."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from controlplane.events import publish
from controlplane.events.schema import Event
from controlplane.fleet.models import Pool
from tests.controlplane import builders


@pytest.fixture
def sent_events(monkeypatch) -> list[Event]:
    """Live events are collected here instead of going to Redis."""
    collected: list[Event] = []

    def collect(events: Iterable[Event]) -> bool:
        collected.extend(events)
        return True

    monkeypatch.setattr(publish, "send", collect)
    return collected


@pytest.fixture
def chat_pool(db) -> Pool:
    return builders.pool()
