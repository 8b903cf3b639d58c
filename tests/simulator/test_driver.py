from __future__ import annotations

from dataclasses import replace

import pytest

from controlplane.scheduling.config import POLICY_NAMES, SchedulingConfig
from controlplane.simulator import driver, latency
from controlplane.simulator.driver import SimulationConfig, SimulationError, SimulationResult, simulate
from controlplane.simulator.workloads import SimRequest, Workload, generate

MODEL = latency.load()


def simulated(workload: Workload, policy: str, instances: int = 4, **options) -> SimulationResult:
    parts = options.pop("parts", {})
    model = options.pop("latency", MODEL)
    return simulate(
        workload, SimulationConfig(SchedulingConfig.for_policy(policy, **parts), instances, model, **options)
    )


@pytest.fixture(scope="module")
def crowded() -> Workload:
    return generate("M-M", 2.2, 400, seed=5)


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_every_request_ends_once_and_times_are_in_order(policy: str, crowded: Workload) -> None:
    result = simulated(crowded, policy)
    assert [record.request_id for record in result.records] == list(range(400))
    for record, request in zip(result.records, crowded.requests, strict=True):
        assert (record.prompt_tokens, record.output_tokens) == (request.prompt_tokens, request.output_tokens)
        assert request.arrival_s < record.first_token_s <= record.finished_s
        assert record.instances
    assert result.instance_seconds == pytest.approx(4 * result.end_s)
    assert result.steps > 0


@pytest.mark.parametrize("policy", ["infaas++", "llumnix", "llumdeck"])
def test_the_same_seed_gives_the_same_log_another_a_different_one(policy: str, crowded: Workload) -> None:
    first, second = simulated(crowded, policy), simulated(crowded, policy)
    assert first.events_sha256 == second.events_sha256
    other = simulated(generate("M-M", 2.2, 400, seed=6), policy)
    assert other.events_sha256 != first.events_sha256


@pytest.mark.parametrize("mode", ["vllm_2023", "vllm_v1"])
@pytest.mark.parametrize("mix", ["M-M", "S-L", "L-S"])
@pytest.mark.parametrize("policy", ["infaas++", "llumnix", "llumdeck"])
def test_jumping_finds_the_history_of_single_steps(policy: str, mix: str, mode: str) -> None:
    rate = {"M-M": 2.2, "S-L": 1.1, "L-S": 3.5}[mix]
    workload = generate(mix, rate, 250, seed=3)
    jumping = simulated(workload, policy, mode=mode)
    plain = simulated(workload, policy, mode=mode, jump=False)
    assert jumping.events_sha256 == plain.events_sha256
    assert jumping.steps == plain.steps
    for one, other in zip(jumping.records, plain.records, strict=True):
        assert one.first_token_s == pytest.approx(other.first_token_s, abs=1e-9)
        assert one.finished_s == pytest.approx(other.finished_s, abs=1e-9)
        assert one.instances == other.instances


def test_migrations_move_load_in_stages_and_cost_a_short_stall() -> None:
    result = simulated(generate("M-M", 2.8, 600, seed=5), "llumnix", parts={"rescheduling": THRESHOLDS})
    done = [each for each in result.migrations if each.outcome == "done"]
    assert len(done) > 20
    for each in done:
        assert each.source != each.destination
        assert each.stages >= 2, "at least one copy while decoding, and the hand-over"
        assert each.end_s > each.start_s
        assert 0.012 <= each.downtime_s < 0.03
        assert each.why
    moved = {record.request_id: record for record in result.records if record.migrations}
    assert {each.request_id for each in done} == set(moved)
    assert all(record.downtime_s > 0 and len(record.instances) > 1 for record in moved.values())


THRESHOLDS = {"source_threshold_tokens": 160.0, "destination_threshold_tokens": 160.0}


def test_migrations_may_abort_and_leave_nothing_behind() -> None:
    workload = generate("S-S", 12.0, 400, seed=4)
    small = replace(MODEL, capacity_blocks=400, migration_copy_s_per_token=0.01)
    result = simulated(workload, "llumnix", latency=small)
    outcomes = {each.outcome for each in result.migrations}
    assert "done" in outcomes
    assert outcomes & {"finished", "preempted", "no_room"}
    assert len(result.records) == 400


def test_older_reports_are_worse_for_who_trusts_them() -> None:
    workload = generate("M-M", 2.3, 500, seed=2)

    def mean_prefill(delay_s: float) -> float:
        result = simulated(workload, "infaas++", report_delay_s=delay_s)
        return sum(r.first_token_s - r.arrival_s for r in result.records) / 500

    assert mean_prefill(5.0) > mean_prefill(0.0)


def test_a_message_takes_its_time() -> None:
    lone = Workload("one", [SimRequest(0, 1.0, 100, 1)], {})
    for delay_s in (0.0, 0.5):
        (record,) = simulated(lone, "llumdeck", dispatch_delay_s=delay_s).records
        assert record.first_token_s == pytest.approx(1.0 + delay_s + MODEL.prefill_s(100))


@pytest.mark.parametrize("policy", ["llumnix", "llumdeck"])
def test_what_fits_nowhere_is_rejected_at_once(policy: str) -> None:
    rows = [SimRequest(0, 0.0, 20_000, 5), SimRequest(1, 0.1, 10, 20_000), SimRequest(2, 0.2, 10, 5)]
    prompt, output, fine = simulated(Workload("three", rows, {}), policy).records
    assert prompt.rejected and prompt.first_token_s < 0
    assert output.rejected, "it would outgrow any instance"
    assert not fine.rejected


@pytest.mark.parametrize("policy", ["infaas++", "llumnix", "llumdeck"])
def test_the_fleet_grows_boots_drains_and_shrinks(policy: str) -> None:
    busy = generate("L-L", 1.0, 500, seed=1)
    scaling = {
        "enabled": True,
        "max_instances": 8,
        "low_freeness_tokens": 160.0,
        "high_freeness_tokens": 800.0,
    }
    result = simulated(busy, policy, instances=1, parts={"scaling": scaling}, boot_s=5.0)
    kinds = [kind for _, kind, _ in result.scale_events]
    assert "up" in kinds and "down" in kinds
    most = max(sample.instances for sample in result.samples)
    assert 1 < most <= 8
    assert result.instance_seconds < 8 * result.end_s
    assert len(result.records) == 500


def test_samples_are_shares() -> None:
    result = simulated(generate("S-L", 1.3, 300, seed=1), "infaas++", sample_s=1.0)
    assert len(result.samples) > 50
    assert all(0 <= sample.used_share <= 1 and 0 <= sample.fragmentation <= 1 for sample in result.samples)
    assert any(sample.fragmentation > 0 for sample in result.samples)


def test_slow_instances_get_less_work() -> None:
    workload = generate("S-S", 1.0, 400, seed=1)
    result = simulated(workload, "llumdeck", instances=2, relative_speeds=(1.0, 0.5))
    first = sum(record.instances[0] == 0 for record in result.records)
    assert first > 240


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"instances": 0}, "instances"),
        ({"mode": "v9"}, "mode"),
        ({"report_delay_s": -1.0}, "report_delay_s"),
        ({"tick_s": 0.0}, "tick_s"),
        ({"relative_speeds": (0.0,)}, "relative_speeds"),
    ],
)
def test_bad_configuration_names_the_field(changes, words: str) -> None:
    good = {"policy": SchedulingConfig(), "instances": 1, "latency": MODEL}
    with pytest.raises(SimulationError, match=words):
        SimulationConfig(**{**good, **changes})


def test_a_policy_that_places_nobody_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver.queueing, "next_dispatches", lambda *args, **options: [])
    with pytest.raises(SimulationError, match="llumdeck places none of the waiting: 7"):
        simulated(Workload("lost", [SimRequest(7, 0.0, 10, 5)], {}), "llumdeck")


def test_an_empty_workload_is_refused() -> None:
    with pytest.raises(SimulationError, match="no requests"):
        simulated(Workload("none", [], {}), "llumnix")
