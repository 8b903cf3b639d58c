"""A request is found by its own id, and by the one that its client was told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controlplane.records.models import RequestRecord
from tests.controlplane import builders

pytestmark = pytest.mark.django_db
TOLD = "chatcmpl-9a0e87dcdce9b559"


@pytest.fixture
def finished() -> RequestRecord:
    return RequestRecord.objects.create(
        request_id=f"{TOLD}-a8eb8ad2",
        slo_class_served="standard",
        model="tiny",
        arrived_at=builders.NOW,
        finished_at=builders.NOW + timedelta(seconds=2),
        prompt_tokens=5,
        output_tokens=9,
        instance_ids=["main-1"],
        outcome="stop",
        end_to_end_ms=2_000.0,
    )


def test_both_ids_lead_to_it(finished, as_role):
    viewer = as_role("viewer")
    for asked in (finished.request_id, TOLD):
        found = viewer.get(f"/api/v1/requests/{asked}")
        assert found.status_code == 200
        assert found.json()["request_id"] == finished.request_id


@pytest.mark.parametrize("asked", ["chatcmpl", "chatcmpl-9a0e87dcdce9b55", "chatcmpl-9a0e87dcdce9b559-a8eb"])
def test_a_piece_of_an_id_leads_nowhere(finished, as_role, asked):
    assert as_role("viewer").get(f"/api/v1/requests/{asked}").status_code == 404
