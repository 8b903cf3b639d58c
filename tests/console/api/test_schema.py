"""The committed OpenAPI document is what the code says; the front end's types are made from it."""

from __future__ import annotations

import json
import warnings

import pytest
from django.db import connection

from console.api.openapi import DOCUMENT, generated
from tests.console.api.endpoints import CALLS


@pytest.mark.skipif(connection.vendor != "sqlite", reason="numbers range as on SQLite")
def test_the_committed_document_is_what_the_code_says():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DOCUMENT.read_text() == generated(), "run manage.py openapi --write and commit the file"


def test_every_endpoint_is_in_it_once():
    document = json.loads(DOCUMENT.read_text())
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert sorted(ids) == sorted(
        f"{name}-{method}" for name, method in CALLS if not name.startswith("metrics")
    )


def test_nothing_in_it_warns(capsys):
    generated()
    assert capsys.readouterr().err == ""
