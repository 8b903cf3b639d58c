"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

Json = Mapping[str, Any]
Column = tuple[str, Callable[[Json], Any]]


def show(rows: Sequence[Json], columns: Sequence[Column], *, as_json: bool, title: str = "") -> None:
    """The rows as a table, or all that is known of them as JSON."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2))
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for name, _ in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(text(read(row)) for _, read in columns))
    Console(highlight=False, width=None).print(table if rows else f"{title or 'nothing'}: none")


def text(value: Any) -> str:
    """Absent is a dash, not zero; nothing that the API says can move the cursor."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "".join(each if each.isprintable() else "?" for each in str(value))


def field(*path: str) -> Callable[[Json], Any]:
    """Reads ``row[a][b]``; ``None`` where something on the way is absent."""

    def read(row: Json) -> Any:
        value: Any = row
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return read


def share(part: str, whole: str) -> Callable[[Json], str | None]:
    """``12 %`` of two fields of ``live``."""

    def read(row: Json) -> str | None:
        live = row.get("live") or {}
        if not live.get(whole):
            return None
        return f"{100 * live[part] / live[whole]:.0f} %"

    return read
