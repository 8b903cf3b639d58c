"""The examples of docs/api.md, run as they stand: each answers the status written behind it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from django.test import Client

from console.accounts import scopes
from console.accounts.principals import Principal
from console.accounts.services import issue_token

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/api.md"


class Example(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int


def example(line: str) -> Example:
    command, _, status = line.rpartition("#")
    words = shlex.split(command)
    method, headers, body, url = "GET", {}, "", ""
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-X":
                method = next(rest)
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d":
                body = next(rest)
            case "-s" | "-i":
                pass
            case _:
                url = word
    return Example(method, url.removeprefix("$URL"), headers, body, int(status))


LINES = re.findall(r"^curl .*$", DOCUMENT.read_text(), re.MULTILINE)


def test_there_are_examples_of_every_kind():
    found = [example(line) for line in LINES]
    assert len(found) >= 15
    assert {each.method for each in found} >= {"GET", "POST", "PATCH"}


def test_every_example_answers_what_the_document_says(live_redis, fleet):
    _, raw = issue_token(
        name="docs", role="admin", scopes=scopes.MEANINGS, by=Principal("t", "admin"), issuer=None
    )
    client = Client()
    for line in LINES:
        each = example(line)
        headers = {name: value.replace("$TOKEN", raw) for name, value in each.headers.items()}
        kind = headers.pop("Content-Type", "application/json")
        call = getattr(client, each.method.lower())
        given = {"data": each.body, "content_type": kind} if each.body else {}
        answer = call(each.path, headers=headers, **given)
        assert (line, answer.status_code) == (line, each.status), answer.content[:500]


@pytest.mark.parametrize("name", sorted(scopes.MEANINGS))
def test_every_scope_is_named(name):
    assert f"`{name}`" in DOCUMENT.read_text()
