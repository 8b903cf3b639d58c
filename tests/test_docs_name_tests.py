"""Tests that the documentation names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_every_test_that_the_documentation_names_exists():
    named = {pair for page in (ROOT / "docs").glob("*.md") for pair in NAMED.findall(page.read_text())}
    assert len(named) > 15
    missing = [
        f"{file}::{name}" for file, name in sorted(named) if f"def {name}(" not in (ROOT / file).read_text()
    ]
    assert not missing


def test_the_security_page_has_every_case():
    text = (ROOT / "docs/security.md").read_text()
    for case in range(39, 49):
        rows = [line for line in text.splitlines() if line.startswith(f"| {case} ")]
        assert len(rows) == 1
        assert NAMED.search(rows[0])
