"""History is written in batches, survives a database that is away, and never blocks."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from controlplane.gateway import records
from controlplane.gateway.records import RecordWriter
from controlplane.records.types import FinishedRequest

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def finished(number: int) -> FinishedRequest:
    return FinishedRequest(
        request_id=f"r{number}",
        tenant_id=1,
        key_id=1,
        slo_class_asked="",
        slo_class_served="standard",
        model="tiny",
        arrived_at=MOMENT,
        first_token_at=None,
        finished_at=MOMENT,
        prompt_tokens=1,
        output_tokens=0,
        instance_ids=(),
        dispatches=0,
        moves=0,
        recoveries=0,
        outcome="abort",
        queued_ms=0.0,
    )


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "BATCH_INTERVAL_S", 0.01)
    monkeypatch.setattr(records, "RETRY_S", 0.01)


def test_everything_is_written_in_order_and_in_batches() -> None:
    batches: list[list[str]] = []
    writer = RecordWriter(lambda batch: batches.append([item.request_id for item in batch]))
    for number in range(500):
        writer.put(finished(number))
    writer.close()
    assert [name for batch in batches for name in batch] == [f"r{n}" for n in range(500)]
    assert max(map(len, batches)) <= records.BATCH and writer.written == 500


def test_a_database_that_is_away_loses_nothing() -> None:
    written: list[str] = []
    failures = iter([OSError, OSError])

    def write(batch) -> None:
        error = next(failures, None)
        if error is not None:
            raise error("away")
        written.extend(item.request_id for item in batch)

    writer = RecordWriter(write)
    for number in range(3):
        writer.put(finished(number))
    deadline = threading.Event()
    while len(written) < 3:
        assert not deadline.wait(0.01)
    writer.close()
    assert written == ["r0", "r1", "r2"]


def test_a_database_that_stays_away_costs_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_WAITING", 10)
    monkeypatch.setattr(records, "BATCH", 5)
    asked = threading.Event()

    def write(batch) -> None:
        asked.set()
        raise OSError("away")

    writer = RecordWriter(write)
    writer.put(finished(0))
    assert asked.wait(60)
    for number in range(100):
        writer.put(finished(number))
    assert writer.dropped > 50
    writer.close()
