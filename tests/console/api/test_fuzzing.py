"""schemathesis over the whole document: no 5xx, no undocumented status, no answer of another shape.

Seeded and short here; ``LLUMDECK_FUZZ_EXAMPLES=200`` makes it long.
"""

from __future__ import annotations

import functools
import json
import os

import pytest
import schemathesis
from django.conf import settings as django_settings
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from console.accounts import scopes
from console.accounts.models import MachineToken
from console.accounts.principals import Principal
from console.accounts.services import issue_token
from console.api.openapi import DOCUMENT
from controlplane.rebalancing.models import RebalanceRound
from controlplane.records.operations import start_operation
from controlplane.records.services import audit
from tests.console.api.test_migrations import move
from tests.controlplane import builders

EXAMPLES = int(os.environ.get("LLUMDECK_FUZZ_EXAMPLES", "3"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
NAMES = {
    "instance_id": "main-1",
    "slug": "acme",
    "migration_id": "m-1",
    "username": "the-admin",
    "operation_id": "op-1",
}


def operations():
    """Every operation; sessions belong to people and are walked elsewhere."""
    document = json.loads(DOCUMENT.read_text())
    schema = schemathesis.openapi.from_dict(document)
    for result in schema.get_all_operations():
        operation = result.ok()
        yield operation


OPERATIONS = list(operations())


@pytest.fixture
def token(live_redis, as_role, fleet):
    """An admin's token, and one row of most things, so that not everything is a 404."""
    as_role("admin")
    move(1)
    audit(actor="a", action="b", object_type="c", object_id="d", before={"x": 1})
    start_operation(kind="instance.drain", object_type="instance", object_id="main-1", actor="a")
    RebalanceRound.objects.create(
        pool=fleet["main-1"].pool,
        taken_at=builders.NOW,
        epoch=1,
        tick=1,
        snapshot={},
        decisions=[],
        duration_ms=1.0,
    )
    _, raw = issue_token(
        name="fuzz", role="admin", scopes=scopes.MEANINGS, by=Principal("t", "admin"), issuer=None
    )
    yield raw
    assert MachineToken.objects.exists(), "the walk took place in the database of the test"


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.label)
def test_nothing_fails_and_nothing_is_undocumented(operation, token, settings):
    run(operation, token)


@functools.cache
def application():
    """One for all: schemathesis reads the source of each that it meets, for values worth trying."""
    return get_wsgi_application()


def run(operation, raw: str) -> None:
    operation.schema.app = operation.app = application()
    known = {name: value for name, value in NAMES.items() if f"{{{name}}}" in operation.path}

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def walk(case) -> None:
        if known and case.id[-1] in "02468aceACE":
            case.path_parameters = {**(case.path_parameters or {}), **known}
        headers = {"Authorization": f"Bearer {raw}"}
        case.call_and_validate(headers=headers, checks=CHECKS)

    walk()


def test_the_application_under_test_is_the_real_one():
    assert django_settings.ROOT_URLCONF == "console.urls"
