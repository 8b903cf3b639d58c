"""Many simulations: the same on one process and on several, and what is done is kept."""

from dataclasses import replace

import pytest

from controlplane.scheduling.config import ConfigError, SchedulingConfig
from controlplane.simulator.grid import (
    EMPTY_CLUSTER,
    POOLED_MEMORY,
    GridError,
    Job,
    WorkloadSpec,
    _sendable,
    _Worker,
    bound_jobs,
    run_job,
    run_jobs,
)
from controlplane.simulator.workloads import WorkloadError


def job(policy="infaas++", seed=0, **changes):
    spec = WorkloadSpec("S-S", 8.0, 150, **changes)
    return Job(policy, spec, SchedulingConfig.for_policy(policy), 4, seed, key=(str(seed), policy))


def test_processes_change_nothing():
    jobs = [job(policy, seed) for policy in ("infaas++", "llumnix") for seed in (0, 1)]
    here, there = run_jobs(jobs, processes=1), run_jobs(jobs, processes=2)
    assert [done.key for done, _ in there.done] == [each.key for each in jobs]
    assert [replace(m, cpu_s=0.0) for _, m in here.done] == [replace(m, cpu_s=0.0) for _, m in there.done]
    assert not there.stopped


@pytest.mark.parametrize("processes", [1, 2])
def test_stopping_keeps_what_is_done(processes):
    def stop(_):
        raise KeyboardInterrupt

    outcome = run_jobs([job(seed=seed) for seed in range(4)], processes, on_done=stop)
    assert outcome.stopped
    assert len(outcome.done) == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_the_error_of_a_job_is_raised(processes):
    with pytest.raises(WorkloadError, match="no length mix"):
        run_jobs([replace(job(), workload=WorkloadSpec("X-X", 1.0, 10)), job()], processes)


def test_an_error_that_a_pipe_would_break_keeps_its_text():
    with pytest.raises(GridError, match="queue: is bad"):
        raise _sendable(ConfigError("queue", "is bad"))
    assert isinstance(_sendable(WorkloadError("x")), WorkloadError)


def test_a_dead_process_is_said():
    worker = _Worker()
    worker.process.kill()
    worker.process.join()
    assert worker.start_next(iter([0]), [job()])
    with pytest.raises(GridError, match="infaas\\+\\+ on S-S with seed 0"):
        worker.result(job())
    worker.end()


def test_bounds_of_a_workload():
    empty, pooled = bound_jobs(job())
    assert (empty.key, pooled.key) == (("0", EMPTY_CLUSTER), ("0", POOLED_MEMORY))
    assert run_job(empty).service.all.prefill_s.mean <= run_job(pooled).service.all.prefill_s.mean
    assert run_job(empty).steps == 0
    assert [bound.bound for bound in bound_jobs(replace(job(), mode="vllm_v1"))] == ["empty"]


def test_a_trace_keeps_its_rate_or_takes_another(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("arrival,prompt,output\n" + "".join(f"{n / 2},10,5\n" for n in range(101)))
    spec = WorkloadSpec(trace=str(path), requests=0)
    assert spec.build(0).rate_per_s == pytest.approx(2.0)
    assert replace(spec, rate_per_s=6.0).build(0).rate_per_s == pytest.approx(6.0)
    assert replace(spec, rate_scale=0.5).build(0).rate_per_s == pytest.approx(1.0)
    shared = replace(spec, requests=50, shares=(("batch", 1.0), ("standard", 1.0))).build(3)
    assert len(shared.requests) == 50
    assert {r.slo_class for r in shared.requests} == {"batch", "standard"}
