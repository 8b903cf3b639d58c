"""The drawn diagrams hold every transition of the tables, and the committed ones are the present ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine_agents.migration.diagram import document, inserted, lines
from engine_agents.migration.handshake import DESTINATION_TABLE, SOURCE_TABLE

DOCUMENT = Path(__file__).parents[3] / "docs" / "migration.md"


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
    assert text.index("### Source") < text.index("### Destination")


def test_the_committed_diagrams_are_the_present_ones():
    text = DOCUMENT.read_text()
    assert inserted(text) == text, "run: python -m engine_agents.migration.diagram docs/migration.md"


def test_a_file_without_a_place_for_them_is_left_alone():
    with pytest.raises(ValueError, match="no place for the diagrams"):
        inserted("# Something else")
