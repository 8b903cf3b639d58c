"""What the suite is worth: damage that the product cannot see must be seen by the comparison."""

from __future__ import annotations

import pytest

from tests.faults.load import Ask, Shape
from tests.faults.trials import Scene, Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines

SEEDED = Shape("seeded, hot", {"temperature": 1.3, "seed": 3, "max_tokens": 500, "ignore_eos": True})
TRIES = 3
"""On a busy machine a request may end, or a stage time out, while it moves."""


def moved(scene: Scene) -> str:
    return scene.site.outcome(scene.move(scene.pick(tokens=(1, 350)))).state


@pytest.mark.parametrize("what", ["token", "sampler"])
def test_a_hand_over_that_carries_something_wrong_is_caught(stage: Stage, matrix, what: str) -> None:
    if what == "sampler" and stage.site.kind != "vllm":
        pytest.skip("a paced engine's sampler has another form")
    asks = [Ask(SEEDED, salt) for salt in (0, 1) * 4]
    with stage.trial(matrix, 0, f"{what} corrupted", 1, asks=asks, must_be_clean=False) as scene:
        scene.agent("destination").ask("sabotage", what)
        scene.wait_tokens(40)
        assert "done" in [moved(scene) for _ in range(TRIES)]
    assert scene.trial.wrong > 0, scene.trial.describe()


def test_an_id_that_is_used_twice_is_caught(stage: Stage, matrix) -> None:
    with stage.trial(matrix, 0, "id reused", 1, must_be_clean=False) as scene:
        scene.wait_tokens(60)
        site, entry = scene.site, scene.pick()
        site.loop.call(setattr, entry, "issued", entry.issued - 1)
        site.outcome(scene.move(entry))
    assert not scene.trial.clean, scene.trial.describe()
