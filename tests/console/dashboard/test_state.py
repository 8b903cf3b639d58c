from __future__ import annotations

from console.dashboard.state import KEPT_EVENTS, KEPT_TOMBSTONES, LiveState


def instance(name: str, heard_at: float = 1.0, **fields):
    return {"id": name, "heard_at": heard_at, **fields}


def move(name: str, ended_at: float | None = None):
    return {"id": name, "ended_at": ended_at}


def test_a_delta_holds_only_what_changed_since():
    state = LiveState()
    state.put("instances", instance("a", used=1))
    seen = state.version
    state.put("instances", instance("b", used=2))
    assert state.delta(seen) == {"instances": [instance("b", used=2)]}
    assert state.delta(state.version) == {}


def test_many_changes_of_one_thing_leave_only_the_latest_value():
    state = LiveState()
    seen = state.version
    for used in range(100):
        state.put("instances", instance("a", used=used))
    assert state.delta(seen) == {"instances": [instance("a", used=99)]}


def test_a_report_without_news_costs_a_time_not_an_instance():
    state = LiveState()
    state.put("instances", instance("a", heard_at=1.0, used=1))
    seen = state.version
    assert state.put("instances", instance("a", heard_at=2.0, used=1)) is False
    assert state.delta(seen) == {"heard": {"instances": {"a": 2.0}}}


def test_a_change_after_a_mere_report_is_sent_whole_and_once():
    state = LiveState()
    state.put("instances", instance("a", heard_at=1.0, used=1))
    seen = state.version
    state.put("instances", instance("a", heard_at=2.0, used=1))
    state.put("instances", instance("a", heard_at=3.0, used=5))
    assert state.delta(seen) == {"instances": [instance("a", heard_at=3.0, used=5)]}


def test_what_is_gone_is_said_and_may_come_back():
    state = LiveState()
    state.put("instances", instance("a"))
    seen = state.version
    state.drop("instances", ["a", "never-there"])
    assert state.delta(seen) == {"gone": {"instances": ["a"]}}
    state.put("instances", instance("a", used=2))
    assert state.delta(seen) == {"instances": [instance("a", used=2)]}


def test_running_moves_and_the_last_finished_ones_are_kept():
    state = LiveState(kept_final_migrations=2)
    for number in range(5):
        state.put_migration(move(f"m-{number}", ended_at=float(number)))
    state.put_migration(move("running"))
    kept = {item["id"] for item in state.snapshot()["migrations"]}
    assert kept == {"m-3", "m-4", "running"}


def test_the_feed_keeps_its_last_lines_and_numbers_them():
    state = LiveState()
    for number in range(KEPT_EVENTS + 7):
        state.add_event(at=float(number), kind="note", text=str(number))
    events = state.snapshot()["events"]
    assert [event["id"] for event in events] == list(range(8, KEPT_EVENTS + 8))
    assert "_version" not in events[0]


def test_a_client_older_than_the_tombstones_is_told_to_start_afresh():
    state = LiveState()
    state.put("instances", instance("first"))
    seen = state.version
    for number in range(KEPT_TOMBSTONES + 2):
        state.put("migrations", move(str(number)))
        state.drop("migrations", [str(number)])
    assert state.delta(seen) is None
    assert state.delta(state.version) == {}


def test_a_single_is_sent_when_it_changes():
    state = LiveState()
    seen = state.version
    assert state.set_single("tenants", ["acme"]) is True
    assert state.set_single("tenants", ["acme"]) is False
    assert state.delta(seen) == {"tenants": ["acme"]}
