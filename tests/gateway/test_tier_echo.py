from __future__ import annotations

import json

import pytest

from controlplane.gateway.tier_echo import echo


@pytest.mark.parametrize("value", [None, "auto", "priority"])
def test_the_tier_used_takes_the_place_of_what_was_there(value: str | None) -> None:
    body = json.dumps({"id": "x", "service_tier": value, "n": 1}, separators=(",", ":")).encode()
    assert json.loads(echo(body, b"flex")) == {"id": "x", "service_tier": "flex", "n": 1}


def test_what_a_model_says_of_tiers_is_left_alone() -> None:
    content = '"service_tier":null, \\"service_tier\\":null'
    body = json.dumps({"content": content, "service_tier": None}, separators=(",", ":")).encode()
    assert json.loads(echo(body, b"flex")) == {"content": content, "service_tier": "flex"}


def test_every_field_of_an_event_is_written_whatever_its_spaces() -> None:
    body = b'data: {"a":{"service_tier": "default"},"service_tier":null,"b":{"service_tier":"unheard"}}'
    told = b'data: {"a":{"service_tier": "flex"},"service_tier":"flex","b":{"service_tier":"unheard"}}'
    assert echo(body, b"flex") == told


def test_other_answers_pass_as_they_are() -> None:
    body = b'data: {"choices":[]}\n\n'
    assert echo(body, b"flex") is body
