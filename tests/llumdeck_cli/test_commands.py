"""The command line against the real API, through WSGI and no network."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner
from django.core.wsgi import get_wsgi_application

from console.accounts import scopes
from console.accounts.principals import Principal
from console.accounts.services import issue_token
from controlplane.fleet.models import Instance
from controlplane.rebalancing.models import PolicyVersion
from controlplane.records.models import AuditEntry
from llumdeck_cli import api, commands
from tests.console.conftest import as_role, fleet  # noqa: F401


@pytest.fixture
def run(live_redis, fleet, monkeypatch):  # noqa: F811
    _, raw = issue_token(
        name="cli", role="operator", scopes=scopes.MEANINGS, by=Principal("t", "admin"), issuer=None
    )
    transport = httpx.WSGITransport(get_wsgi_application())
    real = api.Api
    monkeypatch.setattr(commands, "Api", lambda url, token: real("http://localhost", token, transport))

    def call(*words: str, token: str = raw, text: str | None = None):
        return CliRunner().invoke(commands.main, words, env={"LLUMDECK_TOKEN": token}, input=text)

    return call


def test_status_lists_instances_as_a_table_and_as_json(run):
    table = run("status")
    assert table.exit_code == 0
    assert all(name in table.output for name in ("main-1", "main-2", "ready"))
    rows = json.loads(run("--json", "status").output)
    assert [row["instance_id"] for row in rows] == ["main-1", "main-2", "main-3"]


def test_status_says_by_its_exit_code_that_something_is_wrong(run):
    Instance.objects.filter(instance_id="main-2").update(state="quarantined")
    assert run("status").exit_code == 1


def test_a_drain_is_done_and_audited_under_the_tokens_name(run):
    answer = run("drain", "main-1", "--reason", "kernel update")
    assert (answer.exit_code, "instance.drain" in answer.output) == (0, True)
    assert Instance.objects.get(instance_id="main-1").state == "draining"
    entry = AuditEntry.objects.filter(object_id="main-1").latest("id")
    assert (entry.actor, entry.reason) == ("token:cli", "kernel update")
    assert run("undrain", "main-1").exit_code == 0
    assert Instance.objects.get(instance_id="main-1").state == "ready"


def test_a_migration_can_be_tried_dry(run):
    assert run("migrate", "r-1", "main-1", "main-2").exit_code == 0
    refused = run("migrate", "r-1", "main-1", "main-1", "--dry-run")
    assert refused.exit_code == 1
    assert "same" in " ".join(refused.output.split())


def test_classes_are_listed_in_the_order_they_are_served(run):
    rows = json.loads(run("--json", "classes").output)
    assert [row["name"] for row in rows] == ["interactive", "standard", "batch"]


def test_a_policy_is_compared_and_applied_from_a_file(run, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("policy: llumnix\n")
    assert run("policy", "diff", str(file)).exit_code == 1
    assert run("policy", "apply", str(file), text="n\n").exit_code == 1
    assert not PolicyVersion.objects.exists()
    applied = run("policy", "apply", str(file), "--yes", "--reason", "compare")
    assert applied.exit_code == 0, applied.output
    assert PolicyVersion.objects.get(active=True).config["policy"] == "llumnix"
    assert run("policy", "diff", str(file)).exit_code == 0
    shown = tmp_path / "shown.yaml"
    shown.write_text(run("policy", "show").output)
    assert run("policy", "diff", str(shown)).exit_code == 0


def test_a_policy_can_be_applied_for_a_time(run, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("policy: llumnix\n")
    assert run("policy", "apply", str(file), "--yes", "--for", "5").exit_code == 2
    applied = run("--json", "policy", "apply", str(file), "--yes", "--for", "600")
    assert applied.exit_code == 0, applied.output
    row = PolicyVersion.objects.get(active=True)
    assert round((row.active_until - row.activated_at).total_seconds()) == 600


def test_a_bad_policy_names_the_field(run, tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("policy: nonsense\n")
    answer = run("policy", "diff", str(file))
    assert answer.exit_code == 1
    assert "policy" in answer.output


def test_watch_looks_as_often_as_asked(run):
    lines = run("--json", "watch", "--times", "2", "--every", "0.5").output.splitlines()
    assert [len(json.loads(line)["instances"]) for line in lines] == [3, 3]


def test_errors_are_one_sentence_with_the_requests_id(run):
    answer = run("drain", "main-9")
    assert answer.exit_code == 1
    assert "404" in answer.output
    assert "Traceback" not in answer.output
    assert "401" in run("status", token="ldm_" + "A" * 43).output
    assert "LLUMDECK_TOKEN" in run("status", token="").output


def test_completion_knows_the_fleets_instances(run):
    script = CliRunner().invoke(
        commands.main, [], env={"_LLUMDECK_COMPLETE": "bash_source"}, prog_name="llumdeck"
    )
    assert "_llumdeck_completion" in script.output
    _, raw = issue_token(name="tab", role="viewer", scopes=["read"], by=Principal("t", "admin"), issuer=None)
    env = {"_LLUMDECK_COMPLETE": "bash_complete", "COMP_WORDS": "llumdeck drain main", "COMP_CWORD": "2"}
    found = CliRunner().invoke(commands.main, [], env={**env, "LLUMDECK_TOKEN": raw}, prog_name="llumdeck")
    assert "main-1" in found.output
