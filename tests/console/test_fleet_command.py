from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command

from controlplane.fleet.models import Instance, Pool
from controlplane.records.models import AuditEntry
from tests.controlplane import builders

pytestmark = pytest.mark.django_db


@pytest.fixture
def pool(live_redis) -> Pool:
    return builders.pool("default")


def fleet(*words: object) -> str:
    output = io.StringIO()
    call_command("fleet", *map(str, words), stdout=output)
    return output.getvalue()


def states() -> dict[str, str]:
    return dict(Instance.objects.values_list("instance_id", "state"))


def test_instances_are_added_listed_and_removed(pool):
    assert "added default-1, default-2" in fleet("add", 2)
    assert "target 2, present 2, ready 0" in fleet("list")
    listed = json.loads(fleet("list", "--json"))
    assert [each["instance_id"] for each in listed["instances"]] == ["default-1", "default-2"]
    assert listed["instances"][0]["running"] is None, "absent is not zero"
    fleet("remove", "default-2")
    assert states() == {"default-1": "pending", "default-2": "stopped"}
    assert "target 1" in fleet("list")


def test_a_drain_is_wished_and_taken_back(pool):
    builders.instance("default-1", of=pool)
    assert "default-1 is draining: upgrade" in fleet("drain", "default-1", "--reason", "upgrade")
    assert "default-1 is ready" in fleet("undrain", "default-1")
    assert all(entry.actor.startswith("shell:") for entry in AuditEntry.objects.all())


def test_scale_leaves_the_busy_ones(pool, live_redis):
    for name in ("default-1", "default-2"):
        builders.instance(name, of=pool)
    builders.report(
        live_redis, builders.status("default-1", running=0), builders.status("default-2", running=9)
    )
    fleet("scale", 1)
    assert states() == {"default-1": "draining", "default-2": "ready"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("add", 1, "--pool", "nope"), "there is no pool 'nope'; pools: default"),
        (("drain", "nope"), "there is no instance 'nope'"),
        (("scale", 99), "may have 1 to 8"),
        (("add", 0), "at least one"),
        (("undrain", "default-1"), "only a running instance can be undrained"),
        (("remove", "default-1"), "must keep 1"),
        (("rolling-restart",), "no running instance"),
        (("hold", -1), "must lie ahead"),
        (("cancel-rolling-restart",), "is not being restarted"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(pool, words, complaint):
    builders.instance("default-1", of=pool, state="stopped")
    with pytest.raises(CommandError, match=complaint):
        fleet(*words)


def test_waiting_for_an_end_that_does_not_come_fails(pool):
    builders.instance("default-1", of=pool)
    with pytest.raises(CommandError, match="running after"):
        fleet("drain", "default-1", "--wait", "0.01")


def test_the_policy_can_be_held_and_let_go(pool):
    assert "until" in fleet("hold", 30, "--reason", "launch day")
    assert "scaling held until" in fleet("list")
    fleet("resume")
    assert "held" not in fleet("list")
