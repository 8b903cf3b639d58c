"""What a part of ``make test`` does not even collect, it would leave out by mark."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.run_parts import BROWSER, PROJECT, REAL_ONLY


def with_mark(name: str, sources: Iterable[Path]) -> list[str]:
    mark = re.compile(rf"\bpytest\.mark\.{name}\b")
    return [path.name for path in sources if mark.search(path.read_text())]


@pytest.mark.parametrize("folder", REAL_ONLY)
def test_no_test_in_a_folder_that_the_part_paced_ignores_is_paced(folder: str) -> None:
    sources = list((PROJECT / folder).rglob("test_*.py"))
    assert sources
    assert with_mark("paced", sources) == []


def test_no_test_drives_a_browser_outside_the_folder_that_the_part_browser_collects() -> None:
    inside = set((PROJECT / BROWSER).rglob("test_*.py"))
    assert with_mark("browser", inside)
    assert with_mark("browser", set((PROJECT / "tests").rglob("test_*.py")) - inside) == []
