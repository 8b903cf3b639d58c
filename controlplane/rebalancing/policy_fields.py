"""What a policy's configuration consists of, for forms: read from the core's own dataclasses."""

from __future__ import annotations

import ast
import inspect
import typing
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from controlplane.scheduling import config
from controlplane.scheduling.config import POLICY_NAMES, SchedulingConfig


@cache
def policy_fields() -> tuple[dict[str, Any], ...]:
    """Each field by its dotted path, with kind, default, range or choices, and meaning."""
    return tuple(_walk(SchedulingConfig, SchedulingConfig(), ""))


def _walk(kind: type[Any], defaults: Any, prefix: str) -> Iterator[dict[str, Any]]:
    hints, meanings = typing.get_type_hints(kind), _meanings().get(kind.__name__, {})
    for each in fields(kind):
        value, path = getattr(defaults, each.name), f"{prefix}{each.name}"
        if is_dataclass(value):
            yield from _walk(type(value), value, f"{path}.")
        else:
            yield _describe(path, each, hints[each.name], value, meanings.get(each.name, ""))


def _describe(path: str, each: Field[Any], hint: Any, default: Any, meaning: str) -> dict[str, Any]:
    low, high = each.metadata.get("range", (None, None))
    choices = each.metadata.get("allowed", POLICY_NAMES if path == "policy" else ())
    parts = typing.get_args(hint) or (hint,)
    return {
        "path": path,
        "kind": _kind(parts, bool(choices)),
        "default": list(default) if isinstance(default, tuple) else default,
        "low": low,
        "high": high,
        "choices": list(choices),
        "nullable": type(None) in parts,
        "meaning": meaning,
    }


def _kind(parts: tuple[Any, ...], has_choices: bool) -> str:
    if has_choices:
        return "choice"
    if bool in parts:
        return "flag"
    if float in parts:
        return "number"
    return "whole" if int in parts else "words"


@cache
def _meanings() -> dict[str, dict[str, str]]:
    """The sentence under each field, by class and field; Python itself forgets them."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(config)).body:
        if isinstance(node, ast.ClassDef):
            found[node.name] = dict(_sentences(node.body))
    return found


def _sentences(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, after in pairwise(body):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield field.target.id, " ".join(str(after.value.value).split())
