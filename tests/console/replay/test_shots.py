from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.replay.shots import ReplayError, parse_shares, plan_shots
from controlplane.simulator.workloads import SimRequest, Workload, generate

CONTEXT = 4096


def workload(*requests: tuple[float, int, int]) -> Workload:
    rows = [SimRequest(number, *row) for number, row in enumerate(requests)]
    return Workload("test", rows, generate("M-M", 1.0, requests=1).classes)


def test_speed_shortens_the_gaps_and_duration_counts_what_is_left() -> None:
    shots = plan_shots(
        workload((0.0, 10, 5), (10.0, 10, 5), (30.0, 10, 5)),
        speed=2.0,
        duration_s=6.0,
        context_tokens=CONTEXT,
    )
    assert [shot.at_s for shot in shots] == [0.0, 5.0]


def test_lengths_that_fit_are_left_alone() -> None:
    (shot,) = plan_shots(workload((0.0, 100, 50)), speed=1.0, duration_s=1.0, context_tokens=CONTEXT)
    assert (shot.prompt_tokens, shot.output_tokens) == (100, 50)


@given(
    st.lists(st.tuples(st.integers(1, 20_000), st.integers(1, 5_000)), min_size=1, max_size=30),
    st.integers(256, 8192),
    st.sampled_from([0.0, 0.1, 1.0, 5.0]),
)
def test_every_request_fits_the_context_and_asks_for_something(
    lengths: list[tuple[int, int]], context: int, scale: float
) -> None:
    rows = [(0.0, prompt, output) for prompt, output in lengths]
    shots = plan_shots(workload(*rows), speed=1.0, duration_s=1.0, context_tokens=context, length_scale=scale)
    assert len(shots) == len(rows)
    for shot in shots:
        assert shot.prompt_tokens >= 1 and shot.output_tokens >= 1
        assert shot.prompt_tokens + shot.output_tokens <= context


def test_scaling_keeps_the_longest_the_longest() -> None:
    shots = plan_shots(
        workload((0.0, 14_000, 500), (0.0, 7_000, 250)), speed=1.0, duration_s=1.0, context_tokens=CONTEXT
    )
    longest, other = (shot.prompt_tokens for shot in shots)
    assert longest == pytest.approx(2 * other, abs=2)


def test_a_prompt_has_exactly_its_length_and_another_text_per_request() -> None:
    first, second = plan_shots(
        workload((0.0, 300, 1), (0.0, 300, 1)), speed=1.0, duration_s=1.0, context_tokens=CONTEXT
    )
    assert len(first.prompt(seed=1)) == 300
    assert first.prompt(seed=1) == first.prompt(seed=1)
    assert first.prompt(seed=1) != second.prompt(seed=1)
    assert first.prompt(seed=1) != first.prompt(seed=2)


def test_shares_draw_the_classes() -> None:
    rows = [(0.0, 1, 1)] * 400
    shots = plan_shots(
        workload(*rows),
        speed=1.0,
        duration_s=1.0,
        context_tokens=CONTEXT,
        shares={"interactive": 0.25, "batch": 0.75},
    )
    classes = [shot.slo_class for shot in shots]
    assert set(classes) == {"interactive", "batch"}
    assert 60 < classes.count("interactive") < 140


@pytest.mark.parametrize("text", ["interactive", "interactive=much", "batch=-1", "batch=0"])
def test_bad_shares_are_refused_with_the_option(text: str) -> None:
    with pytest.raises(ReplayError, match="--classes"):
        parse_shares(text)


@pytest.mark.parametrize(("speed", "duration_s", "option"), [(0.0, 1.0, "--speed"), (1.0, 0.0, "--duration")])
def test_bad_numbers_are_refused_with_the_option(speed: float, duration_s: float, option: str) -> None:
    with pytest.raises(ReplayError, match=option):
        plan_shots(workload((0.0, 1, 1)), speed=speed, duration_s=duration_s, context_tokens=CONTEXT)
