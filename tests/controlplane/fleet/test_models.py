from __future__ import annotations

import itertools

import pytest

from controlplane.fleet.models import Instance, Pool, TransitionError
from tests.controlplane.builders import NOW

STATES = list(Instance.State)


@pytest.mark.parametrize(("before", "after"), itertools.product(STATES, STATES))
def test_a_state_changes_only_as_the_table_says_and_with_cause_and_time(before, after):
    row = Instance(instance_id="a", pool=Pool(name="p"), state=before, cause="old", changed_at=NOW)
    if after in Instance.TRANSITIONS[before]:
        row.become(after, cause="because", now=NOW)
        assert (row.state, row.cause, row.changed_at) == (after, "because", NOW)
        return
    with pytest.raises(TransitionError, match=f"is {before} and cannot become {after}"):
        row.become(after, cause="because", now=NOW)
    assert (row.state, row.cause) == (before, "old")


def test_every_state_can_be_reached_and_left():
    reached = set().union(*Instance.TRANSITIONS.values())
    assert reached == set(STATES)
    assert all(Instance.TRANSITIONS[state] for state in STATES)
