"""A fit finds the coefficients that made the timings, and says so when it cannot."""

import csv

import numpy as np
import pytest

from controlplane.simulator.fitting import COLUMNS, FitError, fit, read_steps, relative_error
from controlplane.simulator.latency import load


def recorded(model, noise, count=600, seed=0):
    """Steps as a chunked engine would make them: decodes, lone prompts, both together."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        batch = int(rng.integers(1, 64))
        context = int(batch * rng.integers(20, 600))
        prompt, done = int(rng.integers(128, 4096)), int(rng.integers(0, 4096))
        kind = index % 3
        step = (
            0 if kind == 0 else prompt,
            0 if kind == 0 else done,
            0 if kind == 1 else batch,
            0 if kind == 1 else context,
        )
        took_ms = 1000 * model.mixed_s(*step) * (1 + noise * rng.standard_normal())
        rows.append((*step, took_ms))
    return np.array(rows)


@pytest.mark.parametrize("name", ["llama-7b-a10-published", "llama-2-7b-a100", "llama-2-7b-h100"])
def test_exact_timings_give_the_coefficients_back(name):
    model = load(name)
    found = fit(recorded(model, noise=0.0), "found", "test", capacity_blocks=100)
    fitted = found.model()
    for tokens in (200, 1000, 4000):
        assert fitted.prefill_s(tokens) == pytest.approx(model.prefill_s(tokens), rel=0.03)
    for batch, context in ((1, 100), (16, 4000), (60, 20_000)):
        assert fitted.decode_s(batch, context) == pytest.approx(model.decode_s(batch, context), rel=1e-6)
    assert found.decode_error < 1e-6
    assert found.prefill_error < 0.02
    assert fitted.capacity_blocks == 100


def test_noisy_timings_are_still_within_the_noise():
    model = load("llama-7b-a10-published")
    found = fit(recorded(model, noise=0.1), "noisy", "test", capacity_blocks=100)
    assert relative_error(found.model(), recorded(model, noise=0.0, seed=9)) < 0.03
    assert 0.05 < found.decode_error < 0.12


def test_no_coefficient_falls_below_zero():
    rows = recorded(load("llama-7b-a10-published"), noise=0.0)
    rows[:, 4] = 40.0 - rows[:, 2] / 10
    found = fit(rows, "odd", "test", capacity_blocks=100)
    assert min(value for value in found.coefficients.values() if isinstance(value, float)) >= 0


def test_a_recording_is_read_from_csv(tmp_path):
    path = tmp_path / "steps.csv"
    rows = recorded(load("llama-7b-a10-published"), noise=0.0, count=30)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["instance", *reversed(COLUMNS)])
        writer.writerows([["a", *row[::-1]] for row in rows.tolist()])
    assert read_steps(path) == pytest.approx(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing columns prefill_tokens"),
        ("prefill_tokens,batch\n", "missing columns prefill_context, context_tokens, duration_ms"),
        (",".join(COLUMNS) + "\n1,2,3,4,5\n1,2,3,four,5\n", r"steps\.csv:3: context_tokens .* got 'four'"),
        (",".join(COLUMNS) + "\n1,2,3,4,0\n", r":2: duration_ms must be above 0"),
        (",".join(COLUMNS) + "\n1,2,3\n", r":2: context_tokens must be a number"),
        (",".join(COLUMNS) + "\n-1,2,3,4,5\n", r":2: prefill_tokens"),
    ],
)
def test_bad_recordings_are_refused(tmp_path, text, message):
    path = tmp_path / "steps.csv"
    path.write_text(text)
    with pytest.raises(FitError, match=message):
        read_steps(path)
    with pytest.raises(FitError, match="cannot be read"):
        read_steps(tmp_path / "absent.csv")


def test_too_few_steps_of_a_kind_are_refused():
    rows = recorded(load("llama-7b-a10-published"), noise=0.0)
    with pytest.raises(FitError, match="0 steps with prompt tokens"):
        fit(rows[rows[:, 0] == 0], "x", "test", capacity_blocks=1)
    with pytest.raises(FitError, match="decode steps"):
        fit(rows[rows[:, 0] > 0], "x", "test", capacity_blocks=1)
