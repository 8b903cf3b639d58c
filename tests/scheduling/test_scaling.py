from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from controlplane.scheduling.config import SchedulingConfig
from controlplane.scheduling.decisions import ScaleDown, ScaleUp, Undrain
from controlplane.scheduling.scaling import ScalingState, mean_freeness, plan
from tests.scheduling.clusters import cluster, instance

CONFIG = SchedulingConfig.for_policy(
    "llumnix", scaling={"enabled": True, "max_instances": 6, "low_freeness_tokens": 160.0}
)
BUSY = {"used_tokens": 8000, "running": 10}
MILD = {"used_tokens": 5000, "running": 10}
IDLE = {"used_tokens": 100, "running": 1}


def decide(*instances, state: ScalingState | None = None, config: SchedulingConfig = CONFIG, **changes):
    return plan(cluster(*instances, **changes), state or ScalingState(), config)


def test_within_the_band_nothing_happens() -> None:
    assert decide(instance("a", **MILD), instance("b", **MILD))[0] == ()


def test_grows_by_as_much_as_is_missing_within_the_limit() -> None:
    (up,), state = decide(*(instance(f"i{n}", **BUSY) for n in range(3)))
    assert isinstance(up, ScaleUp) and up.instances >= 1
    assert state == ScalingState(100.0, 100.0)
    crowd = [
        instance(f"i{n}", used_tokens=8192, running=500, waiting=1, head_of_line_tokens=800) for n in "abcde"
    ]
    (most,), _ = decide(*crowd)
    assert most.instances == 1, "six at most"
    assert decide(*crowd, instance("f", **BUSY))[0] == ()


def test_what_is_on_its_way_up_is_not_ordered_twice() -> None:
    members = [instance(f"i{n}", **BUSY) for n in range(2)]
    assert decide(*members)[0]
    assert decide(*members, starting=3)[0] == ()


def test_a_pending_scale_down_is_cancelled_before_an_instance_is_started() -> None:
    leaving = instance("z", draining=True, **IDLE)
    (first,), _ = decide(instance("a", **BUSY), leaving)
    assert first == Undrain("z", first.reason)


def test_the_fewest_running_leaves_when_the_others_can_carry_it() -> None:
    members = (instance("a", **MILD), instance("b", **IDLE), instance("c", **IDLE), instance("d", **IDLE))
    (down,), state = decide(*members)
    assert isinstance(down, ScaleDown) and down.instance_id == "b"
    assert state.changed_at_s == 100.0
    assert decide(*reversed(members))[0] == (down,)


def test_stays_when_the_others_would_be_too_full() -> None:
    assert (
        decide(instance("a", used_tokens=7900, running=5), instance("b", used_tokens=1900, running=2))[0]
        == ()
    )


def test_never_below_the_minimum_and_up_to_it_at_once() -> None:
    assert decide(instance("a", **IDLE))[0] == ()
    three = replace(CONFIG, scaling=replace(CONFIG.scaling, min_instances=3))
    (up,), _ = decide(instance("a", **IDLE), config=three)
    assert up == ScaleUp(2, up.reason)
    (first,), _ = decide(config=three)
    assert first == ScaleUp(3, first.reason)


def test_looks_only_every_interval_and_not_down_right_after_up() -> None:
    idle = [instance(f"i{n}", **IDLE) for n in range(4)]
    assert decide(*idle, state=ScalingState(95.0, 0.0))[0] == ()
    assert decide(*idle, state=ScalingState(0.0, 95.0))[0] == ()
    assert decide(*idle, state=ScalingState(0.0, 90.0))[0] != ()
    assert decide(*idle, starting=1)[0] == ()


def test_off_means_off() -> None:
    off = SchedulingConfig()
    state = ScalingState(1.0, 2.0)
    assert plan(cluster(instance("a", **BUSY)), state, off) == ((), state)


def test_the_fleet_s_queue_lowers_the_mean() -> None:
    members = [instance("a", **MILD), instance("b", **MILD)]
    bare = mean_freeness(cluster(*members), members)
    assert mean_freeness(cluster(*members, queue_tokens=4000), members) == pytest.approx(bare - 200)
    assert mean_freeness(cluster(), []) == -math.inf


@pytest.mark.parametrize("state", [ScalingState(), ScalingState(1.5, 2.5)])
def test_state_survives_plain_data(state: ScalingState) -> None:
    assert ScalingState.from_dict(state.to_dict()) == state


@pytest.mark.parametrize(("period_s", "cooldown_s"), [(7.0, 30.0), (20.0, 30.0), (45.0, 30.0), (13.0, 10.0)])
def test_a_square_wave_of_load_changes_the_size_at_most_once_per_cooldown(period_s, cooldown_s) -> None:
    """The fleet follows each decision at once, which is when it would flap most."""
    rules = replace(CONFIG.scaling, interval_s=1.0, cooldown_s=cooldown_s, up_cooldown_s=cooldown_s)
    config = replace(CONFIG, scaling=rules)
    state, members, draining, changes = ScalingState(), 2, 0, []
    for second in range(600):
        load = BUSY if (second // period_s) % 2 else IDLE
        present = [instance(f"i{n}", **load) for n in range(members)]
        leaving = [instance(f"z{n}", draining=True, **IDLE) for n in range(draining)]
        snapshot = replace(cluster(*present, *leaving), taken_at_s=float(second))
        decisions, state = plan(snapshot, state, config)
        if decisions:
            changes.append(float(second))
        for each in decisions:
            if isinstance(each, ScaleUp):
                members += each.instances
            elif isinstance(each, ScaleDown):
                members, draining = members - 1, draining + 1
            else:
                members, draining = members + 1, draining - 1
    gaps = [after - before for before, after in pairwise(changes)]
    assert len(changes) >= 3, "the wave must move something"
    assert min(gaps) >= cooldown_s
    assert rules.min_instances <= members <= rules.max_instances
