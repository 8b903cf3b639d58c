"""The matrix itself: what is not clean fails, and is shown."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from tests.faults.matrix import PROPERTY, Matrix, Trial, percentile, render, rows_of, write_json


class Item:
    def __init__(self) -> None:
        self.user_properties: list[tuple[str, object]] = []


def report(*trials: Trial) -> SimpleNamespace:
    return SimpleNamespace(when="call", user_properties=[(PROPERTY, asdict(trial)) for trial in trials])


@pytest.mark.parametrize("count", ["lost", "duplicated", "wrong", "leaked", "failed"])
def test_a_trial_that_is_not_clean_fails(count: str) -> None:
    item = Item()
    with pytest.raises(AssertionError, match=f"{count} 1"), Matrix(item).trial(1, "x", 7) as trial:
        setattr(trial, count, 1)
    assert item.user_properties[0][1][count] == 1


def test_a_trial_that_breaks_is_kept_as_broken() -> None:
    item = Item()
    with pytest.raises(RuntimeError), Matrix(item).trial(1, "x", 7):
        raise RuntimeError
    assert item.user_properties[0][1]["broke"]


def test_rows_sum_trials_and_keep_the_longest_time(tmp_path) -> None:
    one, two = Trial(2, "b", 1, requests=3, gaps_ms=[5.0, 1.0]), Trial(2, "b", 2, requests=4, lost=1)
    one.note(refused=2, freed_ms=10)
    two.note(refused=1, freed_ms=4)
    (row,) = rows_of([report(one), report(two)])
    found = row.as_json()
    assert (found["tried"], found["requests"], found["lost"]) == (2, 7, 1)
    assert found["seen"] == {"refused": 3, "freed_ms": 10} and found["gap_p99_ms"] == 5.0
    assert "refused 3" in render([row])
    write_json([row], tmp_path / "faults.json")
    assert json.loads((tmp_path / "faults.json").read_text())["total"]["lost"] == 1


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile([], 50) is None
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    assert percentile([float(n) for n in range(1, 201)], 99) == 198.0
