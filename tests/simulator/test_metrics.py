"""Metrics of runs made by hand, where every figure can be counted on fingers."""

from dataclasses import dataclass

import pytest

from controlplane.simulator.metrics import DEFAULT_SLOS, SloTarget, geometric_mean, measure


@dataclass
class Record:
    slo_class: str = "standard"
    arrival_s: float = 0.0
    prompt_tokens: int = 10
    output_tokens: int = 11
    first_token_s: float = 1.0
    finished_s: float = 2.0
    preemptions: int = 0
    preemption_loss_s: float = 0.0
    migrations: int = 0
    downtime_s: float = 0.0


def test_one_request():
    metrics = measure([Record(arrival_s=0.5)])
    assert metrics.makespan_s == 1.5
    assert metrics.all.request_s.mean == 1.5
    assert metrics.all.prefill_s.p99 == 0.5
    assert metrics.all.decode_s.p50 == pytest.approx(0.1)
    assert metrics.longest_wait_s == metrics.long_prompt_prefill_p99_s == 0.5
    assert metrics.classes == {"standard": metrics.all}


def test_a_single_token_has_no_decode_time():
    metrics = measure([Record(output_tokens=1, finished_s=1.0), Record()])
    assert metrics.all.decode_s.count == 1
    assert measure([Record(output_tokens=1, finished_s=1.0)]).all.decode_s.max == 0.0


def test_the_tail_and_the_longest_prompts():
    records = [Record(prompt_tokens=i, first_token_s=i / 100, finished_s=20.0) for i in range(1, 1001)]
    metrics = measure(records)
    assert metrics.all.prefill_s.p50 == pytest.approx(5.005)
    assert metrics.all.prefill_s.p99 == pytest.approx(9.9, abs=0.02)
    assert metrics.all.prefill_s.p999 == pytest.approx(9.99, abs=0.01)
    assert metrics.longest_wait_s == 10.0
    assert metrics.long_prompt_prefill_p99_s == pytest.approx(9.995, abs=0.01)


def test_preemptions_and_migrations_are_means_over_the_right_requests():
    records = [
        Record(preemptions=2, preemption_loss_s=3.0),
        Record(),
        Record(migrations=2, downtime_s=0.04),
        Record(),
    ]
    metrics = measure(records)
    assert (metrics.all.preemptions, metrics.all.preempted_requests) == (2, 1)
    assert metrics.all.preemption_loss_mean_s == 0.75
    assert (metrics.migrations, metrics.migrated_requests) == (2, 1)
    assert metrics.downtime_s.mean == 0.04


def test_slo_attainment_needs_both_promises_and_is_per_class():
    slos = {"standard": SloTarget(1.0, 0.1), "batch": SloTarget(None, None)}
    records = [
        Record(),
        Record(first_token_s=1.1, finished_s=2.1),
        Record(finished_s=2.5),
        Record(slo_class="batch", first_token_s=90.0, finished_s=100.0),
    ]
    metrics = measure(records, slos)
    assert metrics.classes["standard"].slo_attainment == pytest.approx(1 / 3)
    assert metrics.classes["batch"].slo_attainment == 1.0
    assert metrics.all.goodput_per_s == pytest.approx(2 / 100.0)
    assert set(DEFAULT_SLOS) == {"interactive", "standard", "batch"}


def test_nothing_served_is_an_error():
    with pytest.raises(ValueError, match="nothing to measure"):
        measure([])


def test_geometric_mean():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    for bad in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="above 0"):
            geometric_mean(bad)
