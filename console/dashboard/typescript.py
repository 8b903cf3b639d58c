"""Writes the page's types from the live protocol and the events of the control plane.

    python -m console.dashboard.typescript [--check]

``--check`` changes nothing and fails when the file is not what would be written.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types
from pathlib import Path
from typing import (
    Any,
    Literal,
    NewType,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from console.dashboard import protocol
from controlplane.events import schema

TARGET = Path(__file__).resolve().parents[2] / "frontend" / "src" / "live" / "generated.ts"
HEAD = """// Generated from console/dashboard/protocol.py and controlplane/events/schema.py.
// Do not edit: run `python -m console.dashboard.typescript`.
"""
PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}


class UnknownTypeError(TypeError):
    """A field's type has no counterpart in TypeScript here."""


def render() -> str:
    """The whole file."""
    parts = [HEAD, *_aliases(), *_protocol(), *_events()]
    return "\n".join(parts)


def typescript(hint: Any) -> str:
    """One type. Raises :class:`UnknownTypeError`."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return typescript(arguments[0])
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in arguments)
    if origin in {Union, types.UnionType}:
        return " | ".join(typescript(each) for each in arguments)
    if origin is list:
        inner = typescript(arguments[0])
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if origin is dict:
        return f"Record<string, {typescript(arguments[1])}>"
    if is_typeddict(hint) or isinstance(hint, NewType):
        return str(hint.__name__)
    raise UnknownTypeError(f"no TypeScript for {hint!r}")


def _aliases() -> list[str]:
    return [
        f"export type {name} = {typescript(getattr(protocol, name))};\n" for name in ("EventKind", "Topic")
    ]


def _protocol() -> list[str]:
    found = [each for each in vars(protocol).values() if is_typeddict(each)]
    return [_interface(each.__name__, get_type_hints(each, include_extras=True)) for each in found]


def _events() -> list[str]:
    made = [_event(name, cls) for name, cls in schema.TYPES.items()]
    union = " | ".join(cls.__name__ for cls in schema.TYPES.values())
    return [*made, f"export type ControlEvent = {union};\n"]


def _event(name: str, cls: type[schema.Event]) -> str:
    hints = get_type_hints(cls)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
    return _interface(cls.__name__, {"type": Literal[name], **fields})


def _interface(name: str, fields: dict[str, Any]) -> str:
    lines = [f"  {field}{_mark(hint)}: {typescript(hint)};" for field, hint in fields.items()]
    return "\n".join([f"export interface {name} {{", *lines, "}\n"])


def _mark(hint: Any) -> str:
    return "?" if get_origin(hint) is NotRequired else ""


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the page's types of the live protocol.")
    parser.add_argument("--check", action="store_true", help="only compare; status 1 when they differ")
    options = parser.parse_args()
    wanted = render()
    if options.check:
        return 0 if TARGET.read_text() == wanted else 1
    TARGET.write_text(wanted)
    print(TARGET)
    return 0


if __name__ == "__main__":
    sys.exit(main())
