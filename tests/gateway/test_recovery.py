"""How often and how long a request that lost its instance is tried again, and what its client is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from controlplane.gateway.entries import Entry
from controlplane.gateway.live_requests import (
    RECOVERY_ATTEMPTS,
    RECOVERY_LIMIT_EMPTY_S,
    RECOVERY_LIMIT_S,
    Call,
    LiveRequest,
)
from controlplane.gateway.recovery import MAX_REFUSALS, Recovery
from engine_agents.vllm_engine.frontend_port import NewRequest


def lost(recoveries: int = 1) -> LiveRequest:
    new = NewRequest("r", b"", prompt_tokens=3, max_tokens=9, gap_closable=True)
    call = Call("http", cast(Any, None), 0.0, datetime.now(UTC))
    return LiveRequest(new, call, Entry("r", gap_closable=True, recoveries=recoveries))


def test_a_request_is_tried_on_so_many_instances_and_no_more() -> None:
    recovery = Recovery()
    assert recovery.begin(lost(RECOVERY_ATTEMPTS), 1.0) is None
    refused = recovery.begin(lost(RECOVERY_ATTEMPTS + 1), 1.0)
    assert refused is not None and refused.status == 503 and "instances" in refused.message
    assert recovery.counters["given_up"] == 1 and recovery.counters["recoveries"] == 2


@pytest.mark.parametrize(("ready", "limit_s"), [(True, RECOVERY_LIMIT_S), (False, RECOVERY_LIMIT_EMPTY_S)])
def test_it_waits_for_another_instance_as_long_as_is_said(ready: bool, limit_s: float) -> None:
    live = lost()
    Recovery().begin(live, 10.0)
    assert live.give_up(10.0 + limit_s, ready) == ""
    assert "instance was lost" in live.give_up(10.1 + limit_s, ready)


def test_a_request_that_was_bound_again_has_its_time_anew() -> None:
    live = lost()
    Recovery().begin(live, 10.0)
    live.bound(11.0, "a", 1)
    assert live.give_up(1000.0, True) == ""


def test_what_an_engine_cannot_run_is_the_clients_to_mend() -> None:
    refused = Recovery().after_refusal(lost(), "invalid: too long")
    assert refused is not None and refused.status == 400 and "too long" in refused.message


@pytest.mark.parametrize("reason", ["no_room", "draining"])
def test_refusals_that_time_mends_do_not_count(reason: str) -> None:
    live = lost()
    assert not any(Recovery().after_refusal(live, reason) for _ in range(10 * MAX_REFUSALS))


def test_other_refusals_end_it_in_the_end() -> None:
    live, recovery = lost(), Recovery()
    answers = [recovery.after_refusal(live, "stale_dispatch") for _ in range(MAX_REFUSALS + 1)]
    assert not any(answers[:-1]) and answers[-1] is not None and answers[-1].status == 503
