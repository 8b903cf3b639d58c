from __future__ import annotations

from controlplane.rebalancing.waiting import queue_of
from engine_agents.messages import GatewayStatus, Waiter


def gateway(name: str, *waiting_s: float, pool: str = "chat") -> GatewayStatus:
    waiters = [
        Waiter(request_id=f"{name}-{each:g}", slo_class="batch", prompt_tokens=10, waiting_s=each)
        for each in waiting_s
    ]
    return GatewayStatus(
        gateway_id=name,
        incarnation="a",
        pool=pool,
        url="",
        reported_at_s=0.0,
        open_streams=0,
        queued=len(waiters),
        per_class=[],
        waiters=waiters,
        queue_tokens=10 * len(waiters),
    )


def test_each_gateway_names_its_longest_waiter_by_age_whatever_its_clock():
    gateways = [gateway("a", 3.0, 9.0, 1.0), gateway("b", 2.0), gateway("c"), gateway("d", 99.0, pool="code")]
    waiters, tokens = queue_of(gateways, "chat", taken_at_s=1_000.0)
    assert [(each.request_id, each.arrived_at_s) for each in waiters] == [("a-9", 991.0), ("b-2", 998.0)]
    assert tokens == 40
