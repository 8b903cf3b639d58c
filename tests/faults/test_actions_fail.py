"""Beyond the numbered cases of a killed side: any action of the hand-over raises, any message of it is lost.

They belong to cases 4 and 13: nobody may stay frozen, reserved or in doubt.
"""

from __future__ import annotations

import pytest

from tests.faults.matrix import varied
from tests.faults.scene import Scene
from tests.faults.trials import Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines

RAISED = (
    "source.ask_grant",
    "source.reserve",
    "source.copy",
    "source.freeze",
    "source.commit.done",
    "source.release",
    "destination.hold",
    "destination.answer_reserved",
    "destination.write",
    "destination.adopt",
    "destination.adopt.done",
    "destination.announce",
    "destination.answer_committed",
    "source.commit",
)
LOST = (
    "source.ask_grant",
    "source.reserve",
    "destination.answer_reserved",
    "destination.answer_stage_done",
    "source.commit",
    "destination.announce",
    "destination.answer_committed",
)


@varied(*RAISED)
def test_an_action_of_the_hand_over_that_raises(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 13, f"{variant} raises", seed) as scene:
        strike(scene, variant, "raise")


@varied(*LOST)
def test_a_message_of_the_hand_over_that_is_lost(stage: Stage, matrix, seed: int, variant: str) -> None:
    with stage.trial(matrix, 4, f"message of {variant} lost", seed) as scene:
        strike(scene, variant, "drop")


def strike(scene: Scene, point: str, action: str) -> None:
    scene.somewhere()
    role = point.partition(".")[0]
    scene.agent(role).arm(f"{point}:{action}@1")
    scene.struck()
    scene.move_to(role, point)
