"""What the suite is worth: damage that the product cannot see must be seen by the comparison."""

from __future__ import annotations

import pytest

from controlplane.gateway.entries import Entry
from tests.faults.load import Ask, Shape
from tests.faults.trials import Stage

pytestmark = [pytest.mark.engine, pytest.mark.slow]  # slow: loads engines

SEEDED = Shape("seeded, hot", {"temperature": 1.3, "seed": 3, "max_tokens": 500, "ignore_eos": True})
MOVED = 2
"""So many requests carry the damage, each with many tokens still to be made from it."""


@pytest.mark.parametrize("what", ["token", "sampler"])
def test_a_hand_over_that_carries_something_wrong_is_caught(stage: Stage, matrix, what: str) -> None:
    if what == "sampler" and stage.site.kind != "vllm":
        pytest.skip("a paced engine's sampler has another form")
    asks = [Ask(SEEDED, salt) for salt in (0, 1) * 4]
    with stage.trial(matrix, 0, f"{what} corrupted", 1, asks=asks, must_be_clean=False) as scene:
        scene.agent("destination").ask("sabotage", what)
        for _ in range(MOVED):
            scene.move_until_ended(lambda one: one.state == "done", "its end", tokens=(1, 350))
    assert scene.trial.wrong > 0, scene.trial.describe()


def test_an_id_that_is_used_twice_is_caught(stage: Stage, matrix) -> None:
    with stage.trial(matrix, 0, "id reused", 1, must_be_clean=False) as scene:
        loop = scene.site.loop

        def reuse(entry: Entry) -> None:
            loop.call(setattr, entry, "issued", entry.issued - 1)

        scene.move_until_ended(lambda _: scene.dispatches.given_twice(), "a grant", prepare=reuse)
    assert scene.trial.wrong > 0, scene.trial.describe()
