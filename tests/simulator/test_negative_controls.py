"""Take a mechanism away and its gain has to go: what would show a simulator that flatters."""

from dataclasses import replace

import pytest

from controlplane.scheduling.config import SchedulingConfig
from controlplane.simulator import latency
from controlplane.simulator.cluster import Cluster
from controlplane.simulator.driver import SimulationConfig, simulate
from controlplane.simulator.metrics import measure
from controlplane.simulator.paper_priorities import HIGH, class_rules
from controlplane.simulator.workloads import generate

MODEL = latency.load()
IMMEDIATE = ("round_robin", "least_outstanding", "infaas++", "llumnix_base", "llumnix", "llumnix_ledger")


def simulated(workload, policy, instances=16, delay_s=0.01, speeds=(), **parts):
    config = SimulationConfig(
        SchedulingConfig.for_policy(policy, **parts),
        instances,
        MODEL,
        report_delay_s=delay_s,
        dispatch_delay_s=delay_s,
        relative_speeds=speeds,
    )
    return simulate(workload, config)


def times(result):
    return [(r.request_id, r.first_token_s, r.finished_s, r.preemptions) for r in result.records]


def mixed_classes(rules, seed=1):
    classes = {rule.name: rule for rule in rules}
    shares = {"interactive": 0.1, "standard": 0.9}
    return generate("S-S", 26.0, 2_500, seed, cv=4.0, shares=shares, classes=classes)


def high_decode_mean_s(policy, rules):
    return measure(simulated(mixed_classes(rules), policy).records).classes[HIGH].decode_s.mean


@pytest.mark.parametrize("policy", ["llumnix", "llumdeck"])
def test_headroom_zero_removes_the_priority_gain(policy):
    base = high_decode_mean_s(policy, class_rules(priorities=False))
    with_headroom = high_decode_mean_s(policy, class_rules(priorities=True))
    without = high_decode_mean_s(policy, class_rules(priorities=True, target_load_tokens=None))
    assert base / with_headroom > 1.04
    assert base / without == pytest.approx(1.0, abs=0.03)


def test_llumnix_without_priorities_is_llumnix_base():
    workload = mixed_classes(class_rules(priorities=False))
    assert times(simulated(workload, "llumnix")) == times(simulated(workload, "llumnix_base"))


def test_llumnix_without_migration_dispatches_as_infaas():
    workload = generate("M-M", 7.6, 2_500, seed=1)
    llumnix = simulated(workload, "llumnix", rescheduling={"enabled": False})
    infaas = simulated(workload, "infaas++")
    assert [r.instances for r in llumnix.records] == [r.instances for r in infaas.records]
    assert times(llumnix) == times(infaas)
    assert times(simulated(workload, "llumnix")) != times(infaas)


def test_with_one_instance_there_is_nothing_to_choose():
    crowded = generate("M-M", 0.6, 300, seed=1)
    first, *others = (times(simulated(crowded, policy, instances=1)) for policy in IMMEDIATE)
    assert all(other == first for other in others)


def test_with_one_quiet_instance_late_binding_agrees_too():
    quiet = generate("S-S", 0.3, 300, seed=1)
    no_prefill_limit = {"dispatch": {"unprefilled_limit_tokens": 0}}
    late = simulated(quiet, "llumdeck", instances=1, **no_prefill_limit)
    assert times(late) == times(simulated(quiet, "infaas++", instances=1))


def test_permuting_instances_changes_nothing_but_names():
    workload = generate("M-M", 2.2, 800, seed=1)
    speeds = (1.6, 1.3, 0.9, 0.7)
    order = (2, 0, 3, 1)
    result = simulated(workload, "infaas++", instances=4, speeds=speeds)
    permuted = simulated(workload, "infaas++", instances=4, speeds=tuple(speeds[i] for i in order))
    assert times(permuted) == times(result)
    renamed = [tuple(order[i] for i in r.instances) for r in permuted.records]
    assert renamed == [r.instances for r in result.records]


@pytest.mark.parametrize("policy", [*IMMEDIATE, "llumdeck"])
def test_the_order_in_which_instances_are_listed_never_matters(policy, monkeypatch):
    workload = generate("M-M", 2.6, 500, seed=1)
    result = simulated(workload, policy, instances=4)

    def reverse(cluster):
        cluster._instances = tuple(member.snapshot for member in reversed(cluster.members.values()))

    monkeypatch.setattr(Cluster, "_changed", reverse)
    assert times(simulated(workload, policy, instances=4)) == times(result)


def test_late_binding_without_a_ledger_falls_when_messages_take_time():
    workload = generate("M-M", 7.6, 3_000, seed=1)
    blind = {"dispatch": {"in_flight_accounting": False}}

    def mean_prefill_s(delay_s, **parts):
        return measure(simulated(workload, "llumdeck", delay_s=delay_s, **parts).records).all.prefill_s.mean

    with_ledger, without = mean_prefill_s(0.05), mean_prefill_s(0.05, **blind)
    assert without > 1.2 * with_ledger


def test_equal_classes_by_another_name_change_nothing():
    plain = mixed_classes(class_rules(priorities=False))
    one_class = replace(plain, requests=[replace(r, slo_class="standard") for r in plain.requests])
    assert times(simulated(plain, "llumdeck")) == times(simulated(one_class, "llumdeck"))
