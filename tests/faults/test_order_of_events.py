"""Cases 12 to 15: no room, requests that end in the middle of a move, moves that cross, drains."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable

import pytest

from engine_agents.messages import MigrationOutcome, split_engine_id
from tests.faults.matrix import on_real_engines, varied
from tests.faults.scene import Scene
from tests.faults.trials import Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines

TRYING_LIMIT_S = 120.0
ALMOST_DONE = (180, 210)
"""Of 220 tokens: the rest is made while a stage is held up."""


def test_case_12_a_destination_without_blocks(stage: Stage, matrix, seed: int) -> None:
    with stage.trial(matrix, 12, "destination out of blocks", seed) as scene:
        scene.somewhere()
        destination = scene.agent("destination")
        scene.struck()
        outcome = scene.move_until_ended(
            lambda one: "refused" in one.reason, "a refusal", prepare=lambda _: destination.ask("squeeze")
        )
        destination.ask("release")
        assert outcome.state == "aborted", outcome
        scene.trial.note(refused=1)


@varied("finishes", "is preempted", "is aborted by its client")
def test_case_13_a_request_that_ends_in_mid_move(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 13, f"request {variant} in mid-move", seed) as scene:
        scene.somewhere()
        # Longer than it takes to end, shorter than a stage may take.
        scene.agent("destination").arm("destination.write:delay=2.0")
        scene.struck()
        ends = {"finishes": finishes, "is preempted": is_preempted, "is aborted by its client": is_left}
        scene.trial.note(**{again(lambda: ends[variant](scene)).state: 1})


def again(attempt: Callable[[], MigrationOutcome | None]) -> MigrationOutcome:
    """Until a migration has ended for the reason that is wanted: what is to meet does not always."""
    deadline_s = time.monotonic() + TRYING_LIMIT_S
    while time.monotonic() < deadline_s:
        with contextlib.suppress(ValueError):  # refused: the request has ended before its move began
            outcome = attempt()
            if outcome is not None:
                return outcome
    raise AssertionError("no migration ended as it should have")


def finishes(scene: Scene) -> MigrationOutcome | None:
    outcome = scene.site.outcome(scene.move(scene.pick(tokens=ALMOST_DONE)))
    return outcome if outcome.reason == "finished at the source" else None


def is_preempted(scene: Scene) -> MigrationOutcome | None:
    """It goes on by its tokens, or stays; either way it must be preempted while it is on its way."""
    entry, source = scene.pick(), scene.agent("source")
    migration_id = scene.move(entry)
    seen = False
    while not (ended := scene.ended(migration_id)):
        source.ask("squeeze")  # again and again: what one gives back is not for the others
        seen |= any(
            row["state"] == "preempted" and split_engine_id(row["engine_id"])[0] == entry.request_id
            for row in source.ask("requests")
        )
        time.sleep(0.02)
    source.ask("release")
    return ended[0] if seen else None


def is_left(scene: Scene) -> MigrationOutcome | None:
    leaver = scene.leaver()
    if (entry := leaver.entry) is None:
        return None
    if entry.owner_id == scene.destination:
        scene.cast = [scene.destination, scene.source]
        scene.agent("destination").arm("destination.write:delay=2.0")
    migration_id = scene.move(entry)
    leaver.leave()
    outcome = scene.site.outcome(migration_id)
    return outcome if outcome.reason == "aborted by its gateway" else None


@on_real_engines
@varied("twice the same", "both ways at once", "chain and back")
def test_case_14_moves_that_cross(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 14, f"moves: {variant}", seed, agents=3) as scene:
        scene.somewhere()
        scene.struck()
        {"twice the same": twice, "both ways at once": both_ways, "chain and back": chain}[variant](scene)


def twice(scene: Scene) -> None:
    """The second command finds it leaving already."""
    scene.agent("destination").arm("destination.write:delay=1.0")

    def second_is_refused() -> MigrationOutcome | None:
        entry = scene.pick()
        first = scene.move(entry)
        try:
            second = scene.site.command(entry, scene.source, scene.third)
        except ValueError as refusal:
            outcome = scene.site.outcome(first)
            return outcome if "leaving" in str(refusal) else None
        scene.site.outcome(second)  # the first had ended
        return None

    again(second_is_refused)
    scene.trial.note(refused=1)


def both_ways(scene: Scene) -> None:
    """Each of the two is the other's destination at the same time."""

    def there_and_back() -> MigrationOutcome | None:
        there = scene.pick()
        back = scene.site.pick(scene.rng, scene.destination)
        ids = [scene.move(there), scene.site.command(back, scene.destination, scene.source)]
        outcomes = [scene.site.outcome(one) for one in ids]
        return outcomes[0] if all(one.state == "done" for one in outcomes) else None

    again(there_and_back)
    scene.trial.note(done=2)


def chain(scene: Scene) -> None:
    """A to B to C to A: each hand-over waits for the one before."""
    route = [scene.source, scene.destination, scene.third, scene.source]

    def all_around() -> MigrationOutcome | None:
        entry = scene.pick(tokens=(1, 60))
        for source, to in itertools.pairwise(route):
            outcome = scene.site.outcome(scene.site.command(entry, source, to))
            if outcome.state != "done":
                return None
        return outcome

    again(all_around)
    scene.trial.note(done=3)


@on_real_engines
@varied("destination", "source")
def test_case_15_draining_in_mid_copy(stage: Stage, matrix, seed: int, variant: str) -> None:
    """Neither a destination that is drained in mid-copy nor a whole drain ends a request."""
    with stage.trial(matrix, 15, f"{variant} drained in mid-copy", seed) as scene:
        scene.somewhere()
        site = scene.site
        scene.agent("destination").arm("destination.write:delay=0.3@1")
        scene.struck()
        migration_id = scene.move_to("destination", "destination.write")
        scene.agent(variant).ask("set_accepting", False, site.epoch)
        outcome = site.outcome(migration_id)
        scene.trial.note(**{outcome.state: 1})
        if variant == "source":
            empty(scene)
        scene.agent(variant).ask("set_accepting", True, site.epoch)


def empty(scene: Scene) -> None:
    """Everything that runs on the source leaves it, as in a drain."""
    for entry in scene.site.entries():
        if entry.owner_id == scene.source:
            with contextlib.suppress(ValueError):
                scene.trial.note(**{scene.site.outcome(scene.move(entry)).state: 1})
