from __future__ import annotations

import pytest

from controlplane.records.operations import (
    cancel_operation,
    finish_operation,
    operations,
    report_progress,
    start_operation,
)

pytestmark = pytest.mark.django_db


def begun(**changes):
    fields = {"kind": "instance.drain", "object_type": "instance", "object_id": "chat-1", "actor": "olga"}
    return start_operation(**fields | changes)


def test_an_operation_runs_until_it_is_ended():
    operation = report_progress(begun(total=4), done=3, note="3 of 4 requests moved")
    assert (operation.state, operation.done, operation.total) == ("running", 3, 4)
    finish_operation(operation)
    assert (operation.state, operation.done) == ("succeeded", 4)
    assert operation.finished_at == operation.updated_at


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (lambda it: finish_operation(it, problem="no node"), "failed"),
        (lambda it: cancel_operation(it, by="olga"), "cancelled"),
        (finish_operation, "succeeded"),
    ],
)
def test_the_first_end_counts_and_later_words_change_nothing(end, state):
    operation = end(begun())
    finish_operation(operation, problem="late")
    report_progress(operation, done=9)
    found = operations().get(operation_id=operation.operation_id)
    assert (found.state, found.done) == (state, 0)
    assert found.problem != "late"


def test_operations_are_found_by_what_they_act_on():
    begun()
    begun(object_id="chat-2")
    finish_operation(begun(object_id="chat-2"))
    assert [each.object_id for each in operations(object_id="chat-2", state="running")] == ["chat-2"]
