"""The hand-over rules: every token once, one owner, whatever the agents send."""

from __future__ import annotations

import pytest

from controlplane.gateway.entries import AbortAt, Effects, Finished, Recover
from controlplane.gateway.journal import ADOPTION_GRACE_S, GAP_LIMIT_S, SUSPICION_S, SUSPICIOUS_SPANS, Journal
from tests.gateway.outputs import PlainEditor, PlainOutput


class Scene:
    """One request at instance ``a``, and what its client has seen."""

    def __init__(self, *, gap_closable: bool = True) -> None:
        self.journal = Journal(PlainEditor())
        self.entry = self.journal.open("r", gap_closable=gap_closable)
        self.journal.assign("r", "a")
        self.seen: list[int] = []
        self.actions: list[object] = []

    def take(self, effects: Effects) -> list[object]:
        for output in effects.deliver:
            assert output.request_id == "r"
            self.seen.extend(output.new_token_ids)
        self.actions.extend(effects.actions)
        return list(effects.actions)

    def step(
        self, instance: str, dispatch: int, start: int, *tokens: int, end: str | None = None
    ) -> list[object]:
        output = PlainOutput("whatever the engine calls it", list(tokens), end, prompt_news=True)
        return self.take(self.journal.step(instance, [f"r#{dispatch}"], [start], [output]))

    def ask(self, migration: str = "m1", destination: str = "b", dispatch: int = 1) -> int:
        grant = self.journal.ask_move("a", migration, f"r#{dispatch}", destination)
        return grant.next_dispatch if grant.granted else 0

    def adopt(self, dispatch: int, start: int, *, now: float = 0.0, tokens: list[int] | None = None):
        made = list(range(start)) if tokens is None else tokens
        return self.take(self.journal.adopted("b", f"r#{dispatch}", start, made, now))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_tokens_of_the_owner_are_delivered_in_order(scene: Scene) -> None:
    scene.step("a", 1, 0, 0, 1)
    scene.step("a", 1, 2, 2)
    assert scene.seen == scene.entry.tokens == [0, 1, 2]


def test_known_positions_are_trimmed_and_counted(scene: Scene) -> None:
    scene.step("a", 1, 0, 0, 1)
    scene.step("a", 1, 1, 1, 2)
    scene.step("a", 1, 0, 0)
    assert scene.seen == [0, 1, 2]
    assert scene.journal.counters["duplicate_tokens"] == 2


def test_a_gap_from_the_owner_is_recovered_from_the_journal(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    actions = scene.step("a", 1, 2, 2)
    assert actions == [AbortAt("a", "r#1"), Recover("r", "tokens 1 to 1 were lost")]
    assert scene.seen == [0] and scene.entry.owner == 0


@pytest.mark.parametrize(("end", "failed_at"), [("error", "a"), ("abort", "")])
def test_an_engine_that_ends_it_by_an_error_is_named(scene: Scene, end: str, failed_at: str) -> None:
    scene.step("a", 1, 0, 0)
    recover = scene.step("a", 1, 1, end=end)[-1]
    assert recover == Recover("r", f"the engine ended it: {end}", failed_at)


def test_a_stale_dispatch_is_dropped_counted_and_aborted(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.take(scene.journal.revoke("r", "silent"))
    assert scene.journal.assign("r", "b") == 2
    assert scene.step("a", 1, 1, 99) == [AbortAt("a", "r#1")]
    assert scene.seen == [0] and scene.journal.counters["stale_outputs"] == 1


def test_an_output_of_an_unknown_request_is_aborted_where_it_came_from(scene: Scene) -> None:
    scene.step("a", 1, 0, 0, end="stop")
    assert scene.step("a", 1, 1, 1) == [AbortAt("a", "r#1")]


def test_finish_closes_the_entry(scene: Scene) -> None:
    actions = scene.step("a", 1, 0, 0, end="length")
    assert actions == [Finished(scene.entry, "length")]
    assert scene.journal.get("r") is None and len(scene.journal) == 0


@pytest.mark.parametrize("ending", ["abort", "error"])
def test_an_ending_nobody_asked_for_is_recovered_not_shown(scene: Scene, ending: str) -> None:
    scene.step("a", 1, 0, 0)
    actions = scene.step("a", 1, 1, end=ending)
    assert isinstance(actions[-1], Recover)
    assert scene.journal.get("r") is scene.entry


def test_adopted_after_the_last_tokens_of_the_source(scene: Scene) -> None:
    scene.step("a", 1, 0, 0, 1)
    assert scene.ask() == 2
    scene.adopt(2, 2)
    assert (scene.entry.owner, scene.entry.owner_id, scene.entry.pending) == (2, "b", None)
    scene.step("b", 2, 2, 2)
    assert scene.seen == [0, 1, 2] and scene.entry.moves == 1


def test_adopted_before_the_last_tokens_of_the_source_holds_the_destination_back(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.adopt(2, 3)
    scene.step("b", 2, 3, 3)
    assert scene.seen == [0] and scene.entry.owner == 1
    scene.step("a", 1, 1, 1, 2)
    assert scene.seen == [0, 1, 2, 3] and scene.entry.owner == 2


def test_outputs_of_the_destination_may_come_before_adopted(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.step("b", 2, 1, 1)
    assert scene.seen == [0, 1] and scene.entry.owner == 2
    scene.adopt(2, 1)
    assert scene.journal.counters["duplicate_adoptions"] == 1


def test_a_gap_is_closed_from_adopted_after_its_limit(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.adopt(2, 3, now=10.0)
    scene.step("b", 2, 3, 3)
    scene.take(scene.journal.tick(10.0 + GAP_LIMIT_S - 0.01))
    assert scene.seen == [0]
    scene.take(scene.journal.tick(10.0 + GAP_LIMIT_S))
    assert scene.seen == [0, 1, 2, 3] and scene.journal.counters["gaps_closed"] == 1


def test_a_gap_with_log_probabilities_is_recomputed_instead() -> None:
    scene = Scene(gap_closable=False)
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.adopt(2, 2, now=0.0)
    actions = scene.take(scene.journal.tick(GAP_LIMIT_S))
    assert AbortAt("b", "r#2") in actions and isinstance(actions[-1], Recover)
    assert scene.seen == [0]


def test_a_dead_source_closes_the_gap_at_once(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.adopt(2, 2)
    scene.take(scene.journal.instance_lost("a", 0.1))
    assert scene.seen == [0, 1] and scene.entry.owner == 2


def test_a_dead_source_gives_its_destination_a_moment_to_say_that_it_adopted(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    assert scene.take(scene.journal.instance_lost("a", 5.0)) == []
    scene.adopt(2, 2, now=5.1)
    assert scene.seen == [0, 1] and scene.entry.owner == 2


def test_a_dead_source_whose_destination_says_nothing_is_recovered_and_the_grant_revoked(
    scene: Scene,
) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.take(scene.journal.instance_lost("a", 5.0))
    actions = scene.take(scene.journal.tick(5.0 + ADOPTION_GRACE_S))
    assert AbortAt("b", "r#2") in actions and isinstance(actions[-1], Recover)
    assert scene.journal.assign("r", "c") == 3
    assert scene.adopt(2, 1) == [AbortAt("b", "r#2")]
    assert scene.entry.owner == 3


def test_a_dead_destination_leaves_the_source_alone_unless_it_had_adopted(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    assert scene.take(scene.journal.instance_lost("b", 0.0)) == []
    assert scene.entry.pending is None and scene.entry.owner == 1
    assert scene.ask("m2") == 3
    scene.adopt(3, 2)
    actions = scene.take(scene.journal.instance_lost("b", 0.0))
    assert isinstance(actions[-1], Recover) and scene.entry.owner == 0


def test_a_source_that_let_go_to_a_destination_that_died_unheard_is_recovered(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.take(scene.journal.instance_lost("b", 0.0))
    scene.step("a", 1, 1, 1)
    assert scene.take(scene.journal.tick(SUSPICION_S)) == []
    actions = scene.take(scene.journal.tick(2 * SUSPICION_S))
    assert isinstance(actions[-1], Recover) and scene.entry.owner == 0


def test_a_source_that_goes_on_after_its_destination_died_is_left_alone(scene: Scene) -> None:
    scene.ask()
    scene.take(scene.journal.instance_lost("b", 0.0))
    for second in range(1, SUSPICIOUS_SPANS + 2):
        scene.step("a", 1, second - 1, second - 1)
        assert scene.take(scene.journal.tick(second * SUSPICION_S)) == []
    assert scene.take(scene.journal.tick(100 * SUSPICION_S)) == []


def test_an_owner_that_dies_without_a_move_is_recovered(scene: Scene) -> None:
    actions = scene.take(scene.journal.instance_lost("a", 0.0))
    assert actions == [AbortAt("a", "r#1"), Recover("r", "instance a is gone")]
    assert scene.entry.recoveries == 1


def test_asking_twice_for_one_move_gets_the_same_number(scene: Scene) -> None:
    assert scene.ask("m1") == scene.ask("m1") == 2


def test_a_later_move_kills_the_number_of_an_earlier_one(scene: Scene) -> None:
    assert (scene.ask("m1"), scene.ask("m2", "c")) == (2, 3)
    assert scene.adopt(2, 0) == [AbortAt("b", "r#2")]
    assert scene.entry.owner == 1


@pytest.mark.parametrize(
    ("instance", "asked", "destination"),
    [("a", "r#7", "b"), ("x", "r#1", "b"), ("a", "r#1", "a"), ("a", "nobody#1", "b")],
)
def test_moves_are_denied_to_those_who_do_not_own(scene: Scene, instance, asked, destination) -> None:
    grant = scene.journal.ask_move(instance, "m", asked, destination)
    assert not grant.granted and grant.reason


def test_no_second_move_while_one_is_being_handed_over(scene: Scene) -> None:
    scene.ask("m1")
    scene.adopt(2, 1)
    assert scene.ask("m2", "c") == 0


def test_a_finish_while_a_move_is_pending_aborts_both(scene: Scene) -> None:
    scene.ask()
    actions = scene.step("a", 1, 0, 0, end="stop")
    assert actions == [AbortAt("a", "r#1"), AbortAt("b", "r#2"), Finished(scene.entry, "stop")]
    assert scene.adopt(2, 1) == [AbortAt("b", "r#2")]


def test_a_client_that_leaves_while_a_move_is_pending_aborts_both(scene: Scene) -> None:
    scene.ask()
    entry, effects = scene.journal.close("r")
    assert entry is scene.entry
    assert effects.actions == [AbortAt("a", "r#1"), AbortAt("b", "r#2")]


def test_a_finish_among_held_outputs_ends_the_request_once(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.adopt(2, 2)
    scene.step("b", 2, 2, 2)
    scene.step("b", 2, 3, 3, end="length")
    actions = scene.step("a", 1, 1, 1)
    assert scene.seen == [0, 1, 2, 3]
    assert actions == [Finished(scene.entry, "length")]


def test_a_source_that_handed_over_is_not_told_to_abort(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.adopt(2, 1)
    assert scene.step("a", 1, 0, 0) == []
    assert scene.journal.counters["stale_outputs"] == 1


def test_a_destination_with_other_tokens_is_not_believed(scene: Scene) -> None:
    scene.step("a", 1, 0, 0, 1)
    scene.ask()
    actions = scene.adopt(2, 2, tokens=[0, 7])
    assert AbortAt("b", "r#2") in actions and isinstance(actions[-1], Recover)
    assert scene.seen == [0, 1]


def test_the_first_output_of_another_engine_does_not_repeat_what_is_known_of_the_prompt(scene: Scene) -> None:
    scene.step("a", 1, 0, 0)
    scene.ask()
    scene.adopt(2, 1)
    output = PlainOutput("", [1], prompt_news=True)
    (delivered,) = scene.journal.step("b", ["r#2"], [1], [output]).deliver
    assert not delivered.prompt_news


def test_a_refused_add_leaves_the_request_without_owner(scene: Scene) -> None:
    assert scene.journal.refused("r#1") is scene.entry
    assert scene.entry.owner == 0 and scene.entry.instances == []
    assert scene.journal.refused("r#1") is None


class TestInDoubt:
    def test_an_unproved_move_loses_for_good(self, scene: Scene) -> None:
        scene.ask()
        dispatch, effects = scene.journal.ask_owner("r")
        assert (dispatch, effects.actions) == (1, [AbortAt("b", "r#2")])
        assert scene.adopt(2, 0) == [AbortAt("b", "r#2")]
        assert scene.entry.owner == 1

    def test_an_adopted_move_wins(self, scene: Scene) -> None:
        scene.ask()
        scene.adopt(2, 1)
        assert scene.journal.ask_owner("r") == (2, Effects())

    def test_nobody_may_run_what_is_over(self, scene: Scene) -> None:
        scene.journal.close("r")
        assert scene.journal.ask_owner("r")[0] == 0
