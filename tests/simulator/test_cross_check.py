"""The product's jumping engine and a plain one, written apart, find the same history."""

import pytest

from controlplane.scheduling.config import SchedulingConfig
from controlplane.simulator import latency
from controlplane.simulator.driver import SimulationConfig, simulate
from controlplane.simulator.workloads import generate
from tests.simulator.reference import infaas, round_robin, simulate_reference


@pytest.mark.parametrize(("policy", "score"), [("round_robin", round_robin), ("infaas++", infaas)])
@pytest.mark.parametrize(
    ("mix", "rate", "requests", "instances"),
    [("M-M", 2.4, 500, 4), ("S-L", 1.1, 300, 4), ("M-M", 0.5, 200, 1)],
)
def test_the_same_steps_preemptions_and_times(policy, score, mix, rate, requests, instances):
    model = latency.load()
    workload = generate(mix, rate, requests, seed=1)
    expected = simulate_reference(workload, model, instances, score)
    config = SimulationConfig(
        SchedulingConfig.for_policy(policy), instances, model, report_delay_s=0.0, dispatch_delay_s=0.0
    )
    found = simulate(workload, config)
    assert found.steps == expected.steps
    assert len(found.records) == requests
    for record, sequence in zip(found.records, expected.sequences, strict=True):
        assert record.request_id == sequence.request_id
        assert record.preemptions == sequence.preemptions
        assert record.first_token_s == pytest.approx(sequence.first_token_s, abs=1e-7)
        assert record.finished_s == pytest.approx(sequence.finished_s, abs=1e-7)
        assert record.preemption_loss_s == pytest.approx(sequence.preemption_loss_s, abs=1e-7)
    assert sum(record.preemptions for record in found.records) > 0
