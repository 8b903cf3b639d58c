"""Generated workloads: ordered, seeded, with the classes asked for; scaling keeps what it should."""

import pytest

from controlplane.simulator.workloads import WorkloadError, generate, scale, with_shares


def test_a_workload_is_in_order_and_repeats():
    workload = generate("M-M", 7.6, requests=500, seed=1)
    arrivals = [r.arrival_s for r in workload.requests]
    assert arrivals == sorted(arrivals)
    assert [r.request_id for r in workload.requests] == list(range(500))
    assert workload.requests == generate("M-M", 7.6, requests=500, seed=1).requests
    assert workload.name == "M-M @ 7.6/s"
    assert workload.rate_per_s == pytest.approx(7.6, rel=0.15)


def test_another_rate_keeps_lengths_and_the_pattern_of_arrivals():
    slow = generate("L-S", 2.0, requests=300, seed=4)
    fast = generate("L-S", 4.0, requests=300, seed=4)
    assert [r.prompt_tokens for r in slow.requests] == [r.prompt_tokens for r in fast.requests]
    for a, b in zip(slow.requests, fast.requests, strict=True):
        assert a.arrival_s == pytest.approx(2 * b.arrival_s)


def test_scaling_in_rate_and_length():
    workload = generate("S-S", 10.0, requests=200, seed=0)
    scaled = scale(workload, rate=2.0, length=0.01)
    assert scaled.requests[-1].arrival_s == pytest.approx(workload.requests[-1].arrival_s / 2)
    assert min(r.prompt_tokens for r in scaled.requests) == 1
    assert workload.requests == generate("S-S", 10.0, requests=200, seed=0).requests
    with pytest.raises(WorkloadError, match="rate scale"):
        scale(workload, rate=0.0)


def test_classes_by_share_leave_the_rest_alone():
    plain = generate("S-S", 26.0, requests=1_000, seed=2)
    mixed = generate("S-S", 26.0, requests=1_000, seed=2, shares={"interactive": 1, "standard": 9})
    assert {r.slo_class for r in mixed.requests} == {"interactive", "standard"}
    assert [r.arrival_s for r in plain.requests] == [r.arrival_s for r in mixed.requests]
    assert with_shares(plain, {"interactive": 1, "standard": 9}, seed=2).requests == mixed.requests


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mix": "Q-Q"}, "no length mix 'Q-Q'; there are ShareGPT"),
        ({"requests": 0}, "requests must be at least 1"),
        ({"shares": {"gold": 1.0}}, "no SLO class 'gold'; there are interactive"),
        ({"shares": {"batch": 0.0, "standard": 0.0}}, "class shares"),
        ({"rate_per_s": -3.0}, "rate must be above 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(WorkloadError, match=message):
        generate(**{"mix": "S-S", "rate_per_s": 1.0, "requests": 5, **arguments})
