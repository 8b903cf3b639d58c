"""Arrival processes have the rate and burstiness asked for; classes have their shares."""

import numpy as np
import pytest

from controlplane.simulator.arrivals import arrival_times, draw_classes


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0, 4.0])
def test_rate_and_coefficient_of_variation(cv):
    times = arrival_times(8.0, 100_000, seed=5, cv=cv)
    assert times[-1] == pytest.approx(100_000 / 8.0)
    gaps = np.diff(times)
    assert (gaps >= 0).all()
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)


def test_the_same_seed_repeats_and_another_does_not():
    assert (arrival_times(2.0, 50, 1) == arrival_times(2.0, 50, 1)).all()
    assert (arrival_times(2.0, 50, 1) != arrival_times(2.0, 50, 2)).any()


@pytest.mark.parametrize(("rate", "cv"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_impossible_numbers_are_refused(rate, cv):
    with pytest.raises(ValueError, match="must be above 0"):
        arrival_times(rate, 10, 0, cv)


def test_class_shares():
    names = draw_classes({"interactive": 1, "standard": 9}, 20_000, seed=2)
    assert names.count("interactive") / len(names) == pytest.approx(0.1, abs=0.01)
    assert draw_classes({"batch": 0.3}, 3, seed=0) == ["batch"] * 3


@pytest.mark.parametrize("shares", [{}, {"a": -1.0, "b": 2.0}, {"a": 0.0, "b": 0.0}])
def test_bad_shares_are_refused(shares):
    with pytest.raises(ValueError, match="class shares"):
        draw_classes(shares, 10, 0)
