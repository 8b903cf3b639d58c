"""The drawn diagrams hold every transition of the tables."""

from __future__ import annotations

from engine_agents.migration.diagram import document, lines
from engine_agents.migration.handshake import DESTINATION_TABLE, SOURCE_TABLE


def test_every_transition_is_drawn_once():
    for table in (SOURCE_TABLE, DESTINATION_TABLE):
        drawn = list(lines(table))
        assert len(drawn) == len(set(drawn))
        for state, row in table.items():
            for event, (following, _) in row.items():
                start = f"    {state.value} --> {following.value}: {event.value}"
                assert any(line == start or line.startswith(f"{start} / ") for line in drawn)


def test_both_sides_are_in_the_document():
    text = document()
    assert text.count("```mermaid") == 2
    assert text.index("## Source") < text.index("## Destination")
