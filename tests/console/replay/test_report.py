from __future__ import annotations

from console.replay.client import Felt
from console.replay.report import ALL, Spread, failures, reports


def felt(slo_class: str, ttft_ms: float | None, failure: str = "") -> Felt:
    return Felt(
        slo_class,
        asked_tokens=2,
        sent_s=0.0,
        ttft_ms=ttft_ms,
        end_to_end_ms=ttft_ms,
        got_tokens=2,
        failure=failure,
    )


def test_nothing_measured_is_absent_not_zero() -> None:
    assert Spread.of([None, None]) == Spread(None, None, None)


def test_a_class_and_the_whole_are_counted_apart() -> None:
    found = {
        each.slo_class: each
        for each in reports([felt("batch", 10.0), felt("batch", 30.0), felt("standard", 100.0)])
    }
    assert found["batch"].requests == 2 and found["batch"].ttft_ms.mean == 20.0
    assert found[ALL].requests == 3 and found[ALL].output_tokens == 6


def test_failures_count_but_do_not_flatter_the_times() -> None:
    (batch, _) = reports([felt("batch", 10.0), felt("batch", 0.001, "refused")])
    assert (batch.requests, batch.failed, batch.ttft_ms.mean) == (2, 1, 10.0)


def test_kinds_of_failure_are_counted_most_frequent_first() -> None:
    rows = [felt("batch", None, kind) for kind in ("a", "b", "b")] + [felt("batch", 1.0)]
    assert list(failures(rows).items()) == [("b", 2), ("a", 1)]
