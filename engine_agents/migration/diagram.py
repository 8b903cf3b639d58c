"""The hand-over's state diagrams, drawn from the tables: ``python -m engine_agents.migration.diagram``.

Mermaid text on standard output or, given a Markdown file, between its two marks. A
diagram drawn by hand would one day be wrong; a test compares the committed one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine_agents.migration.handshake import DESTINATION_TABLE, FINAL, SOURCE_TABLE, MoveState, Table

BEGIN, END = "<!-- diagram: made by engine_agents.migration.diagram -->", "<!-- end of diagram -->"


def lines(table: Table[Any, Any]) -> Iterator[str]:
    """One line per transition: event, and after the slash what is done."""
    yield "stateDiagram-v2"
    yield f"    [*] --> {MoveState.IDLE.value}"
    for state, row in table.items():
        for event, (following, actions) in row.items():
            done = " / " + ", ".join(action.value for action in actions) if actions else ""
            yield f"    {state.value} --> {following.value}: {event.value}{done}"
    for state in sorted(FINAL):
        yield f"    {state.value} --> [*]"


def document() -> str:
    """Both sides, as Markdown."""
    parts = []
    for title, table in (("Source", SOURCE_TABLE), ("Destination", DESTINATION_TABLE)):
        parts.append("\n".join([f"### {title}", "", "```mermaid", *lines(table), "```", ""]))
    return "\n".join(parts)


def inserted(text: str) -> str:
    """``text`` with the present diagrams between its marks. Raises ``ValueError`` when it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no place for the diagrams: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{document()}\n{END}{after}"


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.stdout.write(document())
        return
    path = Path(arguments[0])
    path.write_text(inserted(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
