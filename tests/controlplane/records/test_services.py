from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.records import selectors, services
from controlplane.records.models import AppendOnlyError, AuditEntry, RequestRecord
from controlplane.records.origin import Origin, acting_for
from controlplane.records.types import FinishedRequest
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db

FINISHED = FinishedRequest(
    request_id="r-1",
    tenant_id=1,
    key_id=1,
    slo_class_asked="",
    slo_class_served="standard",
    model="tiny",
    arrived_at=NOW,
    first_token_at=NOW + timedelta(milliseconds=250),
    finished_at=NOW + timedelta(milliseconds=1250),
    prompt_tokens=10,
    output_tokens=11,
    instance_ids=("chat-1", "chat-2"),
    dispatches=2,
    moves=1,
    recoveries=0,
    outcome="stop",
    queued_ms=3.0,
)


def test_latencies_are_kept_with_the_record():
    services.record_requests([FINISHED])
    row = RequestRecord.objects.get()
    assert (row.ttft_ms, row.tpot_ms, row.end_to_end_ms) == (250.0, 100.0, 1250.0)
    assert row.instance_ids == ["chat-1", "chat-2"]


def test_a_request_without_tokens_has_no_latencies():
    services.record_requests([replace(FINISHED, first_token_at=None, output_tokens=0, outcome="abort")])
    row = RequestRecord.objects.get()
    assert (row.ttft_ms, row.tpot_ms) == (None, None)


def test_recording_twice_keeps_the_first():
    services.record_requests([FINISHED])
    services.record_requests([replace(FINISHED, outcome="length"), replace(FINISHED, request_id="r-2")])
    assert list(RequestRecord.objects.order_by("request_id").values_list("request_id", "outcome")) == [
        ("r-1", "stop"),
        ("r-2", "stop"),
    ]


def test_a_batch_costs_the_same_statements_of_any_usual_length():
    counts = []
    services.record_requests([FINISHED])  # the day's row of usage is there
    for size in (1, 40):
        batch = [replace(FINISHED, request_id=f"r-{size}-{number}") for number in range(size)]
        with CaptureQueriesContext(connection) as queries:
            services.record_requests(batch)
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_retention_forgets_the_old_alone():
    old = replace(FINISHED, request_id="old", finished_at=NOW - timedelta(days=20))
    services.record_requests([FINISHED, old])
    assert services.delete_requests_before(NOW - timedelta(days=10)) == 1
    assert [row.request_id for row in selectors.finished_requests()] == ["r-1"]


def test_requests_are_found_by_tenant_class_and_time():
    other = replace(
        FINISHED,
        request_id="r-2",
        tenant_id=2,
        slo_class_served="batch",
        finished_at=NOW - timedelta(hours=2),
    )
    services.record_requests([FINISHED, other])
    assert [row.request_id for row in selectors.finished_requests(tenant_id=2)] == ["r-2"]
    assert [row.request_id for row in selectors.finished_requests(slo_class="standard")] == ["r-1"]
    assert [row.request_id for row in selectors.finished_requests(since=NOW)] == ["r-1"]


# --------------------------------------------------------------- audit


def entry(**changes) -> AuditEntry:
    fields = {"actor": "ann", "action": "x.y", "object_type": "x", "object_id": "1"}
    return services.audit(**fields | changes)


def test_secrets_are_masked_in_the_audit():
    row = entry(before={"key": "old"}, after={"raw_key": "ld_secret", "name": "ci"})
    assert (row.before, row.after) == ({"key": "•••"}, {"raw_key": "•••", "name": "ci"})


def test_audit_entries_can_neither_be_changed_nor_deleted():
    row = entry()
    row.reason = "changed"
    attempts = (
        row.save,
        row.delete,
        lambda: AuditEntry.objects.update(reason="changed"),
        lambda: AuditEntry.objects.all().delete(),
    )
    for attempt in attempts:
        with pytest.raises(AppendOnlyError):
            attempt()
    row.refresh_from_db()
    assert row.reason == ""


def test_an_audit_entry_is_announced_when_it_is_committed(sent_events, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        row = entry(reason="why")
        assert sent_events == []
    (event,) = sent_events
    assert (event.entry_id, event.actor, event.reason) == (row.pk, "ann", "why")


def test_audit_entries_are_found_by_their_object():
    entry(object_id="1")
    entry(object_id="2")
    assert [row.object_id for row in selectors.audit_entries(object_type="x", object_id="2")] == ["2"]


def test_secrets_are_masked_however_deep_they_lie(db, sent_events):
    before = {"name": "x", "hooks": [{"url": "https://a", "secret": "s3cr3t"}], "auth": {"Token": "t0k3n"}}
    entry = services.audit(actor="a", action="b", object_type="c", object_id="d", before=before)
    assert "s3cr3t" not in str(entry.before)
    assert "t0k3n" not in str(entry.before)
    assert entry.before["hooks"][0]["url"] == "https://a"


def test_entries_carry_the_origin_of_the_call_being_served(db, sent_events):
    with acting_for(Origin("req-12345678", "192.0.2.7")):
        inside = services.audit(actor="a", action="b", object_type="c", object_id="d")
    outside = services.audit(actor="a", action="b", object_type="c", object_id="d")
    assert (inside.request_id, inside.address) == ("req-12345678", "192.0.2.7")
    assert (outside.request_id, outside.address) == ("", None)
