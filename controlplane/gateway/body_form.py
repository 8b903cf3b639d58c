"""Forms of JSON that are valid, and still refused: too deep, ambiguous, or dear to compile. Pure.

The walks are made only where a look at the bytes says that they could find something:
an ordinary body costs a few counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_DEPTH = 64
MAX_PARTS = 10_000
"""Values in one body, where a list of numbers is one: each may cost the reader's checks a tenth of a ms."""
MAX_REPETITIONS = 10_000
"""Largest count in a schema or a regular expression: repetitions are unrolled when it is compiled."""
MAX_PATTERN_CHARACTERS = 2_000
MAX_SCHEMA_NODES = 5_000
TELLING_KEYS = re.compile(
    rb'"(?:model|prompt|messages|input|stream|n|best_of|max_tokens|max_completion_tokens|max_output_tokens'
    rb'|priority|service_tier|stop|tools|response_format|structured_outputs)"\s*:'
)
"""Keys of which two readers must never see different values."""
TOKEN_KEYS = frozenset({"prompt", "tokens", "stop_token_ids", "allowed_token_ids"})
COUNTING_KEYS = frozenset(
    {"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties", "minContains"}
)
PATTERN_KEYS = frozenset({"pattern", "regex", "grammar"})
COUNTS = re.compile(r"\{\s*(\d+)\s*(?:,\s*(\d*)\s*)?\}")

_anything = msgspec.json.Decoder()


class _DuplicateKeyError(Exception):
    pass


def problem(body: bytes) -> str:
    """Why this JSON is not taken; empty when it is. ``body`` must be whole JSON."""
    opened = body.count(b"{") + body.count(b"[")
    if opened > MAX_DEPTH and depth_of(_anything.decode(body)) > MAX_DEPTH:
        return f"it is nested deeper than {MAX_DEPTH} levels"
    if body.count(b",") > MAX_PARTS and has_too_many_parts([_anything.decode(body)]):
        return f"it has more than {MAX_PARTS} parts"
    keys = TELLING_KEYS.findall(body)
    return _duplicate(body) if len(set(keys)) != len(keys) else ""


def _duplicate(body: bytes) -> str:
    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        known = dict(found)
        if len(known) != len(found):
            names = [name for name, _ in found]
            raise _DuplicateKeyError(next(name for name in names if names.count(name) > 1))
        return known

    try:
        json.loads(body, object_pairs_hook=pairs)
    except _DuplicateKeyError as twice:
        return f"the key {str(twice)[:100]!r} is there twice"
    return ""


def depth_of(value: Any) -> int:
    """How many lists and objects lie in each other, counted no further than needed."""
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return depth
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return MAX_DEPTH + 1


def has_too_many_parts(value: Any) -> bool:
    left, parts = [value], 0
    while left:
        item = left.pop()
        if isinstance(item, dict):
            inner = [each for name, each in item.items() if name not in TOKEN_KEYS or not _are_tokens(each)]
        else:
            inner = item
        parts += len(inner)
        if parts > MAX_PARTS:
            return True
        left.extend(each for each in inner if isinstance(each, dict | list))
    return False


def _are_tokens(value: Any) -> bool:
    """A list of numbers, or of such lists."""
    if not isinstance(value, list):
        return False
    lists = value if value and isinstance(value[0], list) else [value]
    return all(isinstance(each, list) and all(type(token) is int for token in each) for each in lists)


def schema_problem(value: Any) -> str:
    """Why a schema, a pattern or a grammar would be too dear to compile; empty when it would not."""
    for count, (name, item) in enumerate(_items(value)):
        if count > MAX_SCHEMA_NODES:
            return f"has more than {MAX_SCHEMA_NODES} parts"
        if name in COUNTING_KEYS and isinstance(item, int | float) and item > MAX_REPETITIONS:
            return f"{name} must be at most {MAX_REPETITIONS}, got {item}"
        if name in PATTERN_KEYS and isinstance(item, str):
            found = _pattern_problem(name, item)
            if found:
                return found
    return ""


def _pattern_problem(name: str, pattern: str) -> str:
    limit = MAX_PATTERN_CHARACTERS * (8 if name == "grammar" else 1)
    if len(pattern) > limit:
        return f"{name} must be at most {limit} characters, got {len(pattern)}"
    product = 1
    for low, high in COUNTS.findall(pattern):
        product *= max(1, int(low[:9]), int((high or "0")[:9]))
    if product > MAX_REPETITIONS:
        return f"{name}: its counts multiply to more than {MAX_REPETITIONS}"
    return ""


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    left: list[tuple[str, Any]] = [("", value)]
    while left:
        name, item = left.pop()
        yield name, item
        if isinstance(item, dict):
            left.extend(item.items())
        elif isinstance(item, list):
            left.extend(("", each) for each in item)
