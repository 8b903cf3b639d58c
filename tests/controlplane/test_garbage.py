"""What is built at start is looked through once, not for weeks."""

from __future__ import annotations

import gc

import pytest

from controlplane import garbage


@pytest.mark.parametrize(("young_objects", "expected"), [(0, None), (12_345, 12_345)])
def test_what_was_built_is_left_out_of_collections(young_objects, expected):
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        garbage.settle(young_objects=young_objects)
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold() == (expected or threshold[0], *threshold[1:])
    finally:
        # Nothing is unfrozen: that would be all that the test run itself has left out.
        gc.set_threshold(*threshold)
