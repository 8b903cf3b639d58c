"""Numbers for people."""

import pytest

from controlplane.simulator.report import number


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (0.0, "0"),
        (12345.6, "12346"),
        (277.15, "277.1"),
        (14.9349, "14.93"),
        (1.0, "1"),
        (0.06382, "0.06382"),
        (0.00031, "0.00031"),
        (-2.5, "-2.5"),
        (16, "16"),
    ],
)
def test_four_digits_and_no_exponent(value, shown):
    assert number(value) == shown
