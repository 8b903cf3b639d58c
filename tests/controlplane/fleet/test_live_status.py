from __future__ import annotations

import pytest

from controlplane.fleet import live_status
from controlplane.fleet.live_status import StatusReader, to_cluster_snapshot
from controlplane.scheduling.snapshot import ClassRule, ClassUse
from engine_agents.messages import ClassLoad, GatewayStatus, InstanceStatus, encode
from tests.controlplane import builders
from tests.controlplane.builders import NOW

WALL_S = NOW.timestamp()


def absorb(reader: StatusReader, *statuses: InstanceStatus, now_s: float, wall_s: float = WALL_S):
    raw = {each.instance_id.encode(): encode(each) for each in statuses}
    return {item.status.instance_id: item for item in reader.absorb(raw, now_s=now_s, wall_s=wall_s)}


def test_a_report_ages_until_a_new_one_comes():
    reader = StatusReader()
    first = builders.status(seq=1)
    assert absorb(reader, first, now_s=50.0)["chat-1"].age_s == 0.0
    assert absorb(reader, first, now_s=53.0)["chat-1"].age_s == 3.0
    assert absorb(reader, builders.status(seq=2), now_s=54.0)["chat-1"].age_s == 0.0


def test_a_clock_that_is_wrong_by_an_hour_matters_only_at_first_sight():
    reader = StatusReader()
    behind = WALL_S - 3600
    assert absorb(reader, builders.status(seq=1, reported_at_s=behind), now_s=0.0)["chat-1"].age_s == 3600
    assert absorb(reader, builders.status(seq=2, reported_at_s=behind), now_s=1.0)["chat-1"].age_s == 0.0
    ahead = WALL_S + 3600
    assert absorb(reader, builders.status(seq=2, reported_at_s=ahead), now_s=9.0)["chat-1"].age_s == 8.0


def test_the_readers_own_wall_clock_may_jump():
    reader = StatusReader()
    absorb(reader, builders.status(seq=1), now_s=0.0)
    jumped = absorb(reader, builders.status(seq=1), now_s=1.0, wall_s=WALL_S + 1e6)
    assert jumped["chat-1"].age_s == 1.0


def test_an_instance_that_vanishes_keeps_its_last_report_and_grows_old():
    reader = StatusReader()
    absorb(reader, builders.status(used_blocks=5), now_s=0.0)
    gone = absorb(reader, now_s=7.0)["chat-1"]
    assert (gone.status.used_blocks, gone.age_s) == (5, 7.0)


def test_the_long_silent_are_forgotten():
    reader = StatusReader()
    absorb(reader, builders.status(), now_s=0.0)
    assert absorb(reader, now_s=live_status.FORGET_AFTER_S + 1) == {}


def test_a_replayed_older_report_is_no_news_but_a_new_incarnation_is():
    reader = StatusReader()
    absorb(reader, builders.status(seq=9, used_blocks=9), now_s=0.0)
    assert absorb(reader, builders.status(seq=3, used_blocks=3), now_s=1.0)["chat-1"].status.used_blocks == 9
    reborn = builders.status(seq=1, incarnation="b", used_blocks=1)
    assert absorb(reader, reborn, now_s=2.0)["chat-1"] == (reborn, 0.0)


def test_bytes_that_are_no_report_are_named_and_spoil_nothing():
    reader = StatusReader()
    raw = {b"chat-1": encode(builders.status()), b"chat-2": b"\xc1", b"chat-3": b"\x80"}
    assert len(reader.absorb(raw, now_s=0.0, wall_s=WALL_S)) == 1
    assert sorted(reader.undecodable) == ["chat-2", "chat-3"]


def test_reports_come_from_redis_in_one_look(live_redis):
    builders.report(live_redis, builders.status("chat-1"), builders.status("chat-2"))
    assert [each.status.instance_id for each in live_status.read_statuses(WALL_S)] == ["chat-1", "chat-2"]
    live_status.forget_instance("chat-1")
    assert [each.status.instance_id for each in live_status.read_statuses(WALL_S)] == ["chat-2"]


def test_gateways_come_from_redis_and_broken_ones_are_left_out(live_redis):
    gateway = GatewayStatus(
        gateway_id="g-1",
        incarnation="a",
        pool="chat",
        url="http://x",
        reported_at_s=WALL_S,
        open_streams=0,
        queued=0,
        per_class=[],
    )
    live_redis.hset("llumdeck:gateways", mapping={"g-1": encode(gateway), "g-2": b"?"})
    assert live_status.read_gateways() == [gateway]


# --------------------------------------------------------------- snapshots


def snapshot(*statuses: InstanceStatus, draining: frozenset[str] = frozenset()):
    reader = StatusReader()
    raw = {each.instance_id.encode(): encode(each) for each in statuses}
    seen = reader.absorb(raw, now_s=0.0, wall_s=WALL_S)
    classes = {"standard": ClassRule("standard", 1)}
    return to_cluster_snapshot(seen, pool="chat", classes=classes, taken_at_s=WALL_S, draining=draining)


def test_memory_is_counted_in_tokens():
    (instance,) = snapshot(
        builders.status(
            used_blocks=3,
            reserved_blocks=2,
            head_of_line_blocks=4,
            queued_blocks=6,
            per_class=[ClassLoad(slo_class="standard", running=1, waiting=2, used_blocks=3)],
        )
    ).instances
    assert (instance.capacity_tokens, instance.used_tokens, instance.reserved_tokens) == (12_800, 48, 32)
    assert (instance.head_of_line_tokens, instance.queued_tokens) == (64, 96)
    assert instance.classes == (ClassUse("standard", 1, 2, 48),)


def test_only_ready_instances_of_the_pool_are_seen():
    found = snapshot(
        builders.status("chat-1"),
        builders.status("chat-2", state="starting"),
        builders.status("code-1", pool="code"),
    )
    assert [each.instance_id for each in found.instances] == ["chat-1"]


@pytest.mark.parametrize(
    ("accepting", "wished", "draining"), [(True, False, False), (False, False, True), (True, True, True)]
)
def test_an_instance_drains_from_the_moment_it_is_wished(accepting, wished, draining):
    names = frozenset({"chat-1"}) if wished else frozenset()
    (instance,) = snapshot(builders.status(accepting=accepting), draining=names).instances
    assert (instance.draining, instance.accepting) == (draining, not draining)


# --------------------------------------------------------------- reports that no agent of ours would write


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://169.254.169.254:80",
        "tcp://[fe80::1]:5555",
        "tcp://[::ffff:169.254.169.254]:80",
        "tcp://224.0.0.1:5555",
        "tcp://0.0.0.0:5555",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:99999",
        "tcp://user@host/path:80",
        "file:///etc/passwd",
        "http://127.0.0.1:80",
        "ipc://",
        "nonsense",
    ],
)
@pytest.mark.parametrize("door", ["data_endpoint", "peer_endpoint"])
def test_a_report_that_leads_elsewhere_is_not_followed(endpoint, door):
    reader = StatusReader()
    absorb(reader, builders.status(seq=1, used_blocks=5), now_s=0.0)
    found = absorb(reader, builders.status(seq=2, used_blocks=9, **{door: endpoint}), now_s=1.0)
    assert found["chat-1"].status.used_blocks == 5
    assert reader.undecodable == ("chat-1",)


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "tcp://127.0.0.1:5555",
        "tcp://10.1.2.3:5555",
        "tcp://[::1]:5555",
        "tcp://gpu-7.rack:1",
        "ipc:///run/a",
    ],
)
def test_places_in_private_networks_are_fit(endpoint):
    assert "chat-1" in absorb(StatusReader(), builders.status(data_endpoint=endpoint), now_s=0.0)


def test_an_epoch_that_cannot_be_is_not_taken_over():
    reader = StatusReader()
    assert absorb(reader, builders.status(lease_epoch=2**62), now_s=0.0) == {}
    assert reader.undecodable == ("chat-1",)
