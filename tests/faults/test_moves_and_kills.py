"""Cases 1 to 6: one side of a migration is killed, at every step of the hand-over."""

from __future__ import annotations

import contextlib

import pytest

from tests.faults.agents import AgentGoneError
from tests.faults.matrix import on_real_engines, varied
from tests.faults.scene import Scene
from tests.faults.trials import Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines


def move_into(scene: Scene, role: str, rule: str) -> None:
    """At a random moment one request moves, and the rule strikes on the way."""
    scene.somewhere()
    scene.agent(role).arm(rule)
    scene.struck()
    # Killed perhaps before it could answer the command, or to say how far it came.
    with contextlib.suppress(AgentGoneError):
        scene.move_to(role, rule.partition(":")[0])
    scene.dies(role)


SOURCE_DIES = {
    1: ("source killed before it reserves", "source.reserve:kill@1"),
    2: ("source killed while a stage is copied", "transfer.chunk:kill@1"),
    3: ("source killed when frozen, before COMMIT", "source.commit:kill"),
    4: ("source killed after COMMIT", "source.commit.done:kill=0.02"),
}


@pytest.mark.parametrize("case", SOURCE_DIES)
def test_a_source_that_is_killed(stage: Stage, matrix, seed: int, case: int) -> None:
    title, rule = SOURCE_DIES[case]
    with stage.trial(matrix, case, title, seed) as scene:
        move_into(scene, "source", rule)


DESTINATION_DIES = {
    "at pre-allocation": "destination.hold:kill",
    "in the first stage": "destination.write:kill@1",
    "before it adopts": "destination.adopt:kill",
}


@varied(*DESTINATION_DIES)
def test_case_05_a_destination_that_is_killed(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 5, f"destination killed {variant}", seed) as scene:
        move_into(scene, "destination", DESTINATION_DIES[variant])


@on_real_engines
def test_case_06_a_destination_that_is_killed_after_commit(stage: Stage, matrix, seed: int) -> None:
    with stage.trial(matrix, 6, "destination killed after COMMIT", seed) as scene:
        move_into(scene, "destination", f"destination.adopt.done:kill={scene.rng.uniform(0.0, 0.3):.3f}")
