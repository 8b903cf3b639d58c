"""Cases 12 to 15: no room, requests that end in the middle of a move, moves that cross, drains."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from tests.faults.matrix import varied
from tests.faults.trials import Scene, Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines


def test_case_12_a_destination_without_blocks(stage: Stage, matrix, seed: int) -> None:
    with stage.trial(matrix, 12, "destination out of blocks", seed) as scene:
        scene.somewhere()
        entry = scene.pick()
        scene.agent("destination").ask("squeeze")
        scene.struck()
        outcome = scene.site.outcome(scene.move(entry))
        scene.agent("destination").ask("release")
        assert outcome.state == "aborted" and "refused" in outcome.reason, outcome
        scene.trial.note(refused=1)


@varied("finishes", "is preempted", "is aborted by its client")
def test_case_13_a_request_that_ends_in_mid_move(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 13, f"request {variant} in mid-move", seed) as scene:
        scene.somewhere()
        if variant == "is aborted by its client":
            leaver = scene.leaver()
            entry = leaver.entry
        else:
            entry = scene.pick(tokens=(1, 100))
        for name in scene.cast:
            scene.site.procs[name].arm("destination.write:delay=1.0@1")
        scene.struck()
        migration_id = scene.move_from_owner(entry)
        if variant == "is aborted by its client":
            leaver.leave()
        elif variant == "is preempted":
            scene.agent("source").ask("squeeze")
        outcome = scene.site.outcome(migration_id)
        if variant == "is preempted":
            scene.agent("source").ask("release")
        scene.trial.note(**{outcome.state: 1})


@varied("twice the same", "both ways at once", "chain and back")
def test_case_14_moves_that_cross(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 14, f"moves: {variant}", seed, agents=3) as scene:
        scene.somewhere()
        scene.struck()
        {"twice the same": twice, "both ways at once": both_ways, "chain and back": chain}[variant](scene)


def twice(scene: Scene) -> None:
    """The second command finds it leaving already."""
    entry = scene.pick()
    scene.agent("destination").arm("destination.write:delay=0.3@1")
    first = scene.move(entry)
    with pytest.raises(ValueError, match="leaving"):
        scene.site.command(entry, scene.source, scene.third)
    assert scene.site.outcome(first).state in ("done", "aborted")
    scene.trial.note(refused=1)


def both_ways(scene: Scene) -> None:
    """Each of the two is the other's destination at the same time."""
    there = scene.pick()
    back = scene.site.pick(scene.rng, scene.destination, tokens=(1, 120))
    ids = [scene.move(there), scene.site.command(back, scene.destination, scene.source)]
    states = [scene.site.outcome(one).state for one in ids]
    scene.trial.note(done=states.count("done"), aborted=states.count("aborted"))


def chain(scene: Scene) -> None:
    """A to B to C to A: each hand-over waits for the one before."""
    entry = scene.pick(tokens=(1, 60))
    route = [scene.source, scene.destination, scene.third, scene.source]
    for source, to in itertools.pairwise(route):
        try:
            outcome = scene.site.outcome(scene.site.command(entry, source, to))
        except ValueError:
            return  # it has ended on the way
        scene.trial.note(**{outcome.state: 1})
        if outcome.state != "done":
            return


@varied("destination", "source")
def test_case_15_draining_in_mid_copy(stage: Stage, matrix, seed: int, variant: str) -> None:
    """Neither a destination that is drained in mid-copy nor a whole drain ends a request."""
    with stage.trial(matrix, 15, f"{variant} drained in mid-copy", seed) as scene:
        scene.somewhere()
        site = scene.site
        scene.agent("destination").arm("destination.write:delay=0.3@1")
        scene.struck()
        migration_id = scene.move_until("destination", "destination.write")
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
