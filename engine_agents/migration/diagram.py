"""The hand-over's state diagrams, drawn from the tables: ``python -m engine_agents.migration.diagram``.

Mermaid text on standard output. A diagram drawn by hand would one day be wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from engine_agents.migration.handshake import DESTINATION_TABLE, FINAL, SOURCE_TABLE, MoveState, Table


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
        parts.append("\n".join([f"## {title}", "", "```mermaid", *lines(table), "```", ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document())
