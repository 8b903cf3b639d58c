from hypothesis import given
from hypothesis import strategies as st

from console.process.restarts import GIVE_UP_AFTER, LONGEST_PAUSE_S, WINDOW_S, Restarts


def test_a_first_death_is_followed_by_a_quick_restart() -> None:
    assert Restarts().pause_after_death(100.0) == 0.5


def test_pauses_grow_with_each_death_in_a_row_until_it_is_given_up() -> None:
    restarts = Restarts()
    pauses = [restarts.pause_after_death(float(second)) for second in range(GIVE_UP_AFTER + 1)]
    known = [pause for pause in pauses if pause is not None]
    assert known == sorted(known) and len(set(known)) > 1
    assert pauses[-1] is None and None not in pauses[:-1]


def test_deaths_long_ago_are_forgotten() -> None:
    restarts = Restarts()
    for second in range(GIVE_UP_AFTER):
        restarts.pause_after_death(float(second))
    assert restarts.pause_after_death(WINDOW_S + GIVE_UP_AFTER) == 0.5


@given(st.lists(st.floats(min_value=0.0, max_value=1000.0), min_size=1, max_size=50))
def test_a_pause_is_never_longer_than_the_longest(gaps_s: list[float]) -> None:
    restarts, now_s = Restarts(), 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        pause_s = restarts.pause_after_death(now_s)
        assert pause_s is None or 0 < pause_s <= LONGEST_PAUSE_S
