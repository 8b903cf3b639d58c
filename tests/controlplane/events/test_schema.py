from __future__ import annotations

import json

import pytest

from controlplane.events import schema
from tests.controlplane.builders import NOW

EXAMPLES = [
    schema.MigrationChanged.of(
        at=NOW,
        migration_id="m",
        request_id="r",
        source_id="a",
        destination_id="b",
        rule="load",
        why="",
        state="done",
    ),
    schema.InstanceChanged.of(at=NOW, instance_id="a", state="ready"),
    schema.PoolScaled.of(at=NOW, pool="chat", action="up", target=3, previous=1),
    schema.TenantClassChanged.of(at=NOW, tenant="acme", slo_class="batch", previous="standard", actor="olga"),
    schema.TenancyChanged.of(
        at=NOW, kind="api_key", name="7", tenant="acme", action="key.revoke", actor="olga"
    ),
    schema.LoopChanged.of(at=NOW, leader="host:1", lease_epoch=2),
    schema.RoundPlanned.of(at=NOW, round_id=1, policy="llumnix", decisions=2),
    schema.PolicyChanged.of(at=NOW, pool="chat", version=2, policy="llumdeck", previous=None, actor="olga"),
    schema.WhatIfChanged.of(at=NOW, job_id=1, state="done"),
    schema.AlertChanged.of(
        at=NOW,
        alert_id=3,
        rule="queue",
        subject="interactive",
        severity="page",
        state="firing",
        summary="waits 9 s",
    ),
    schema.AuditAdded.of(at=NOW, entry_id=1, actor="olga", action="x", object_type="y", object_id="z"),
]


def test_there_is_an_example_of_every_event():
    assert {schema.event_type(event) for event in EXAMPLES} == set(schema.TYPES)


@pytest.mark.parametrize("event", EXAMPLES, ids=schema.event_type)
def test_an_event_comes_back_as_it_left(event):
    assert schema.decode(schema.encode(event)) == event


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"{", "must be JSON"),
        (b"[]", "object with a"),
        (b'{"at_s": 1}', "object with a"),
        (b'{"type": "weather", "at_s": 1}', "unknown event type 'weather'"),
        (
            b'{"type": "loop", "at_s": 1, "leader": "a", "lease_epoch": 1, "mood": "good"}',
            "undeclared fields: mood",
        ),
        (b'{"type": "loop", "at_s": 1}', "leader"),
    ],
)
def test_what_is_not_an_event_is_refused_with_what_is_wrong(data, complaint):
    with pytest.raises(schema.EventError, match=complaint):
        schema.decode(data)


def test_every_event_is_plain_json():
    for event in EXAMPLES:
        assert json.loads(schema.encode(event)) == event.to_dict()
