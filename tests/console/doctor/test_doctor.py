from __future__ import annotations

import io
import json
import shutil
import time
from collections import namedtuple
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from console.doctor import finding, fleet, machine, stores
from console.doctor.finding import Finding, look
from controlplane import redis_client
from controlplane.fleet import jobs_status
from controlplane.fleet.jobs_status import FleetStatus, RayNode
from controlplane.fleet.models import Instance
from tests.controlplane import builders

pytestmark = pytest.mark.django_db


def by_name(findings: Any) -> dict[str, Finding]:
    return {each.name: each for each in findings}


@pytest.fixture
def no_redis(settings, tmp_path):
    settings.REDIS_URL = f"unix://{tmp_path / 'nowhere.sock'}"


@pytest.fixture
def pool(live_redis):
    return builders.pool("default")


def test_every_check_looks_and_none_dies_without_redis(no_redis, capsys):
    output = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", "--json", stdout=output)
    report = json.loads(output.getvalue())
    assert (ended.value.code, report["level"]) == (1, "fail")
    broken = [each for each in report["findings"] if "could not be looked at" in each["says"]]
    assert broken == []
    assert {each["name"] for each in report["findings"]} >= {"redis", "database", "python", "disk (state)"}


def test_a_check_that_breaks_is_a_finding():
    def broken() -> list[Finding]:
        raise RuntimeError("boom")

    (found,) = look([("this", broken)])
    assert (found.level, found.name) == ("fail", "this")
    assert "boom" in found.says


def test_a_database_in_order_is_well():
    found = by_name(stores.database())
    assert {each.level for each in found.values()} == {finding.OK}
    assert set(found) == {"database", "schema", "database writes"}


def test_redis_away_is_a_failure_that_says_what_goes_on(no_redis):
    (found,) = stores.redis()
    assert found.level == finding.FAIL
    assert "streams go on" in found.advice


def test_a_clock_an_hour_off_is_found(pool, live_redis):
    status = builders.status("default-1", reported_at_s=time.time() + 3600)
    builders.report(live_redis, status)
    (found,) = stores.clocks()
    assert found.level == finding.FAIL
    assert "default-1 differs by +36" in found.says


def test_a_silent_loop_and_silent_jobs_are_failures(live_redis):
    assert by_name(fleet.loop())["rebalancing loop"].level == finding.FAIL
    assert by_name(fleet.jobs_and_ray())["jobs"].level == finding.FAIL


def test_ray_s_head_away_is_told_with_since_when(live_redis):
    now_s = time.time()
    nodes = [RayNode(node_id="n", address="127.0.0.1", alive=True, resources={"CPU": 8.0})]
    jobs_status.write(FleetStatus(at_s=now_s, ray_version="2", nodes=nodes))
    assert by_name(fleet.jobs_and_ray())["ray"].says == "2, 1 nodes (CPU 8, GPU 0)"
    jobs_status.write(FleetStatus(at_s=now_s, problem="Ray's head does not answer", since_s=now_s - 60))
    found = by_name(fleet.jobs_and_ray())["ray"]
    assert found.level == finding.FAIL
    assert "for 60 s" in found.says
    assert "running engines go on" in found.advice


def test_the_first_moment_of_a_problem_is_kept():
    before = FleetStatus(at_s=10.0, problem="away", since_s=7.0)
    assert jobs_status.since("away", before, 20.0) == 7.0
    assert jobs_status.since("", before, 20.0) is None
    assert jobs_status.since("away", FleetStatus(at_s=10.0), 20.0) == 20.0


@pytest.mark.parametrize(
    ("state", "level"),
    [("ready", "fail"), ("quarantined", "fail"), ("starting", "warn"), ("unhealthy", "fail")],
)
def test_an_engine_without_a_report_is_never_well(pool, state, level):
    builders.instance("default-1", of=pool, state=state, cause="because")
    assert by_name(fleet.engines())["engine default-1"].level == level


def test_engines_that_report_are_well_and_old_revisions_are_told(pool, live_redis):
    builders.instance("default-1", of=pool, pool_revision=1, changed_at=timezone.now())
    builders.report(live_redis, builders.status("default-1", pool="default", reported_at_s=time.time()))
    pool.target_instances = 1
    pool.save()
    found = by_name(fleet.engines())
    assert (found["engine default-1"].level, found["pool default"].level) == ("ok", "ok")
    pool.revision = 2
    pool.save()
    assert by_name(fleet.engines())["engine default-1"].advice == "manage.py fleet rolling-restart"
    Instance.objects.update(state="draining")
    assert by_name(fleet.engines())["pool default"].level == "fail"


def test_two_versions_in_one_pool_are_told(pool, live_redis):
    builders.report(
        live_redis,
        builders.status("default-1", engine_version="1"),
        builders.status("default-2", engine_version="2"),
    )
    assert "1, 2" in by_name(fleet.engines())["engine versions"].says


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free_mib", "level"), [(100_000, "ok"), (1_000, "warn"), (100, "fail")])
def test_a_disk_that_fills_is_told_in_time(monkeypatch, free_mib, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free_mib * 2**20))
    assert {each.level for each in machine.disks()} == {level}


@pytest.mark.filterwarnings("ignore:No directory at")
def test_readiness_and_the_doctor_agree_about_redis(client, no_redis):
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert redis_client.problem()
