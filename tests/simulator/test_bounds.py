"""Bounds are bounds: nothing simulated beats the empty cluster, and one request alone meets it."""

import pytest

from controlplane.scheduling.config import SchedulingConfig
from controlplane.simulator import latency
from controlplane.simulator.bounds import empty_cluster, pooled_memory
from controlplane.simulator.driver import SimulationConfig, simulate
from controlplane.simulator.metrics import measure
from controlplane.simulator.workloads import SimRequest, Workload, generate

MODEL = latency.load()


def simulated(workload, policy="infaas++", **options):
    config = SimulationConfig(SchedulingConfig.for_policy(policy), 16, MODEL, **options)
    return measure(simulate(workload, config).records)


@pytest.mark.parametrize("mode", ["vllm_2023", "vllm_v1"])
def test_a_request_alone_meets_the_empty_cluster(mode):
    workload = generate("M-M", 1.0, 15, seed=3)
    bound = empty_cluster(workload, MODEL, chunked=mode == "vllm_v1")
    for n, request in enumerate(workload.requests):
        request.arrival_s = 600.0 * n
    alone = simulated(workload, mode=mode, report_delay_s=0.0, dispatch_delay_s=0.0)
    assert alone.all.prefill_s.mean == pytest.approx(bound.all.prefill_s.mean, rel=1e-6)
    assert alone.all.request_s.mean == pytest.approx(bound.all.request_s.mean, rel=1e-3)


@pytest.mark.parametrize("mix", ["S-S", "L-S"])
def test_nothing_beats_the_empty_cluster(mix):
    workload = generate(mix, 9.0, 1_000, seed=1)
    bound, found = empty_cluster(workload, MODEL), simulated(workload)
    for name in ("request_s", "prefill_s", "decode_s"):
        assert getattr(bound.all, name).mean <= getattr(found.all, name).mean
        assert getattr(bound.all, name).p99 <= getattr(found.all, name).p99


def test_a_pool_of_one_server_is_one_engine():
    workload = generate("S-S", 1.0, 300, seed=2)
    config = SimulationConfig(
        SchedulingConfig.for_policy("infaas++"), 1, MODEL, report_delay_s=0.0, dispatch_delay_s=0.0
    )
    engine = measure(simulate(workload, config).records)
    pool = pooled_memory(workload, MODEL, 1)
    assert pool.all.requests == 300
    assert pool.all.prefill_s.mean == pytest.approx(engine.all.prefill_s.mean, rel=0.1)
    assert pool.all.request_s.mean == pytest.approx(engine.all.request_s.mean, rel=0.05)


def test_pooling_removes_preemptions_and_waiting():
    workload = generate("M-M", 7.6, 2_000, seed=0)
    pool, found = pooled_memory(workload, MODEL, 16), simulated(workload)
    assert pool.all.preemption_loss_mean_s <= 0.1 * found.all.preemption_loss_mean_s
    assert pool.all.prefill_s.p99 < found.all.prefill_s.p99


def test_an_overfull_pool_still_serves_everybody():
    workload = generate("S-L", 8.0, 300, seed=0)
    pool = pooled_memory(workload, MODEL, 1)
    assert pool.all.requests == 300
    assert pool.all.preemptions > 0
    assert pool.all.preemption_loss_mean_s > 0


def test_shorter_prompts_first_when_asked_to():
    workload = generate("L-L", 12.0, 600, seed=0)
    first_come = pooled_memory(workload, MODEL, 4)
    shortest = pooled_memory(workload, MODEL, 4, beta_s_per_token=0.1)
    assert shortest.all.prefill_s.p50 < first_come.all.prefill_s.p50


def test_a_prompt_beyond_a_batch_is_served_and_one_beyond_the_pool_left_out():
    sizes = [(10, 5), (MODEL.max_batch_tokens + 100, 3), (3 * MODEL.capacity_tokens, 1)]
    requests = [SimRequest(n, float(n), prompt, output) for n, (prompt, output) in enumerate(sizes)]
    pool = pooled_memory(Workload("odd", requests, {}), MODEL, 2)
    assert pool.all.requests == 2
    assert pool.all.prefill_s.max == pytest.approx(MODEL.prefill_s(MODEL.max_batch_tokens + 100), abs=0.2)


def test_bad_arguments():
    with pytest.raises(ValueError, match="servers"):
        pooled_memory(generate("S-S", 1.0, 5), MODEL, 0)
    with pytest.raises(ValueError, match="nothing to measure"):
        empty_cluster(Workload("none", [], {}), MODEL)
