"""Latency models: what the files promise, the shapes of the formulas, and refusals."""

import json

import pytest

from controlplane.simulator import latency
from controlplane.simulator.latency import LatencyModelError, from_dict, load

MODELS = latency.available()


def test_the_published_model_gives_the_times_of_figure_10():
    model = load("llama-7b-a10-published")
    measured_ms = {256: 58, 512: 110, 1024: 220, 2048: 436, 4096: 940, 8192: 1995}
    for tokens, recompute_ms in measured_ms.items():
        assert 1000 * model.prefill_s(tokens) == pytest.approx(recompute_ms, rel=0.03)
        assert 1000 * model.migration_stall_s(tokens) == pytest.approx(19, abs=8)
    assert model.capacity_tokens == 13_616
    assert 1000 * model.decode_s(1, 8192) == pytest.approx(43.0, abs=0.5)


def test_the_calibrated_model_is_slower_and_smaller():
    published, calibrated = load("llama-7b-a10-published"), load()
    assert calibrated.prefill_s(1000) > published.prefill_s(1000)
    assert calibrated.decode_s(20, 10_000) > published.decode_s(20, 10_000)
    assert calibrated.capacity_blocks < published.capacity_blocks


def test_a_100_gpu_meets_its_measured_steps():
    model = load("llama-2-7b-a100")
    assert 1000 * model.prefill_s(1024) == pytest.approx(74 * 1.2, rel=0.05)
    assert 1000 * model.decode_s(64, 64 * 928) == pytest.approx(27.1 * 1.2, rel=0.05)
    assert 1000 * model.decode_s(128, 128 * 928) == pytest.approx(43.9 * 1.2, rel=0.05)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_monotone_and_says_its_source(name):
    model = load(name)
    assert model.name == name
    assert len(model.source) > 50
    assert model.prefill_s(10) < model.prefill_s(1000) < model.prefill_s(6000)
    assert model.decode_s(1, 100) < model.decode_s(8, 100) < model.decode_s(8, 5000)
    assert model.mixed_s(0, 0, 8, 4000) == model.decode_s(8, 4000)
    steps = [model.mixed_s(n, 0, 8, 4000) for n in range(0, 2049, 64)]
    assert steps == sorted(steps)
    assert model.mixed_s(512, 4096, 8, 4000) >= model.mixed_s(512, 0, 8, 4000)
    assert model.prefill_batch_s(300, 300 * 300) == model.prefill_s(300)


def test_a_mixed_step_is_cheaper_than_its_parts():
    model = load("llama-7b-a10-published")
    parts = model.prefill_s(512) + model.decode_s(16, 8000)
    assert model.mixed_s(512, 0, 16, 8000) < parts


def coefficients(**changes):
    raw = json.loads((latency.COEFFICIENTS / "llama-7b-a10-published.json").read_text())
    return {key: value for key, value in {**raw, **changes}.items() if value != "drop"}


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(coefficients(name="mine", capacity_blocks=99, engine_overhead=2.0)))
    model = load(str(path))
    assert (model.name, model.capacity_blocks) == ("mine", 99)
    assert model.decode_s(4, 100) == pytest.approx(2 * load("llama-7b-a10-published").decode_s(4, 100))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decode_constant_ms": "drop"}, "decode_constant_ms is missing"),
        ({"prefill_ms_per_token": "fast"}, "prefill_ms_per_token must be a number, got 'fast'"),
        ({"prefill_ms_per_token": True}, "must be a number"),
        ({"decode_ms_per_sequence": -1}, "decode_ms_per_sequence must be at least 0"),
        ({"decode_ms_per_sequence": float("nan")}, "must be at least 0"),
        ({"capacity_blocks": 0}, "capacity_blocks must be at least 1"),
        ({"capacity_blocks": 8.5}, "capacity_blocks must be a whole number"),
    ],
)
def test_a_bad_field_is_named(changes, message):
    with pytest.raises(LatencyModelError, match=message):
        from_dict(coefficients(**changes), "file.json")


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(LatencyModelError, match="llama-7b-a10-calibrated"):
        load("no-such-model")
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(LatencyModelError, match="not JSON"):
        load(str(path))
    path.write_text("[]")
    with pytest.raises(LatencyModelError, match="expected an object"):
        load(str(path))
