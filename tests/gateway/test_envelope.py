"""The form and bounds of bodies: what is refused before any work is done on it."""

from __future__ import annotations

import pytest

from controlplane.gateway.envelope import RefusedError, read_envelope


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{bad}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"n": 1} trailing',
        b'{"a": "\xff"}',
        b"[1, 2",
        b"nul",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedError) as caught:
        read_envelope(body)
    assert (caught.value.error.status, caught.value.error.code) == (400, "invalid_json")


def test_json_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(RefusedError) as caught:
        read_envelope(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert caught.value.error.status == 400


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"n": 1000}', "n"),
        (b'{"best_of": 100000}', "best_of"),
        (b'{"prompt": [' + b",".join([b'"a"'] * 1000) + b"]}", "prompt"),
        (b'{"prompt": [ ' + b",".join([b"[1,2]"] * 1000) + b"]}", "prompt"),
    ],
)
def test_what_would_become_too_many_requests_is_refused(body: bytes, param: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_envelope(body)
    assert (caught.value.error.status, caught.value.error.param) == (400, param)


@pytest.mark.parametrize(
    ("body", "tier"),
    [
        (b'{"service_tier": "flex", "prompt": "x"}', "flex"),
        (b'{"service_tier": 7, "n": "many"}', ""),
        (b'{"prompt": ' + b"[" + b",".join([b"5"] * 4000) + b"]}", ""),
        (b'[{"not": "an object"}]', ""),
        (b'"text"', ""),
    ],
)
def test_whatever_else_is_json_passes_on_to_vllm(body: bytes, tier: str) -> None:
    assert read_envelope(body).service_tier == tier


@pytest.mark.parametrize(
    ("body", "max_tokens", "choices", "priority"),
    [
        (b'{"prompt": "x"}', None, 1, 0),
        (b'{"max_tokens": 7, "n": 3, "priority": 2}', 7, 3, 2),
        (b'{"max_tokens": 7, "max_completion_tokens": 9}', 9, 1, 0),
        (b'{"max_output_tokens": 11}', 11, 1, 0),
        (b'{"max_tokens": true, "n": "many", "priority": 1.5}', None, 1, 0),
    ],
)
def test_what_limits_and_classes_need_is_read(body, max_tokens, choices, priority) -> None:
    found = read_envelope(body)
    assert (found.max_tokens, found.choices, found.priority) == (max_tokens, choices, priority)
    assert found.body_bytes == len(body)
