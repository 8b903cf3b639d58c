"""Latency rows: what is in the window, of which class, against which target."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from controlplane.gateway import latency
from controlplane.gateway.latency import WINDOW_S, LatencyWindow, percentile
from tests.gateway.identities import CLASSES


def test_percentiles_and_attainment_of_one_class() -> None:
    window = LatencyWindow()
    for number in range(1, 101):
        window.add(0.0, "interactive", ttft_ms=number * 10.0, tpot_ms=None)
    (row,) = window.report(1.0, Counter(interactive=2), CLASSES)
    assert (row.requests, row.open) == (100, 2)
    assert (row.ttft_p50_ms, row.ttft_p99_ms) == (510.0, 1000.0)
    assert row.ttft_attained == 0.5
    assert row.tpot_p50_ms is None and row.tpot_attained is None


def test_what_is_old_is_forgotten_and_what_is_open_is_shown() -> None:
    window = LatencyWindow()
    window.add(0.0, "batch", 1.0, 1.0)
    rows = window.report(WINDOW_S + 1, Counter(standard=1, batch=0), CLASSES)
    assert [(row.slo_class, row.requests, row.open) for row in rows] == [("standard", 0, 1)]


def test_a_class_without_target_attains_nothing_in_particular() -> None:
    window = LatencyWindow()
    window.add(0.0, "batch", 5.0, 5.0)
    (row,) = window.report(1.0, Counter(), CLASSES)
    assert row.ttft_attained == 1.0 and row.tpot_attained is None


@pytest.mark.parametrize("most", [10, 10_000])
def test_a_report_is_that_of_the_newest_samples_however_they_came_and_went(most, monkeypatch) -> None:
    monkeypatch.setattr(latency, "MAX_SAMPLES", most)
    rng, window, kept = random.Random(7), LatencyWindow(), []
    for number in range(600):
        now_s = number * 0.5
        # Equal values on purpose: one of them leaving must not take the others along.
        ttft_ms = rng.choice([None, 100.0, 200.0, rng.uniform(0, 3_000)])
        kept = [*kept, (now_s, ttft_ms)][-most:]
        window.add(now_s, "interactive", ttft_ms, None)
        if number % 20 == 0:
            kept = [sample for sample in kept if now_s - sample[0] <= WINDOW_S]
            (row,) = window.report(now_s, Counter(), CLASSES)
            known = sorted(value for _, value in kept if value is not None)
            within = [value for value in known if value <= CLASSES["interactive"].ttft_target_ms]
            assert row.requests == len(kept)
            assert row.ttft_p99_ms == percentile(known, 0.99)
            assert row.ttft_attained == (len(within) / len(known) if known else None)
