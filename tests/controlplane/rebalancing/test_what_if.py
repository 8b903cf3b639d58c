"""What-if: hostile uploads are refused, two policies are really simulated, and limits hold."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from datetime import timedelta

import pytest

from controlplane.rebalancing import services
from controlplane.rebalancing.models import WhatIfJob, WhatIfTrace
from controlplane.rebalancing.patience import Patience
from controlplane.records.models import AuditEntry, RequestRecord
from tests.controlplane import builders
from tests.controlplane.builders import NOW

pytestmark = pytest.mark.django_db

HEADER = b"arrival,prompt,output,class\n"
PAIR = [{"config": {"policy": "infaas++"}}, {"name": "ours", "config": {"policy": "llumdeck"}}]


def rows(count: int, *, every_s: float = 0.05, prompt: int = 200, output: int = 50) -> bytes:
    lines = [f"{number * every_s},{prompt + number % 7 * 300},{output},batch" for number in range(count)]
    return HEADER + "\n".join(lines).encode()


def trace(count: int = 60, **changes) -> WhatIfTrace:
    return services.upload_trace(name="mine.csv", content=rows(count, **changes), actor="ann")


def job(pool, **changes) -> WhatIfJob:
    fields = {"trace": trace(), "pool": pool, "policies": PAIR, "actor": "ann", "instances": 2}
    return services.start_what_if(**fields | changes)


@pytest.fixture(autouse=True)
def sent_by_hand(monkeypatch, sent_events):
    """The worker's part is called by the tests themselves."""
    monkeypatch.setattr("controlplane.rebalancing.services.what_if._send", lambda job_id: None)


# --------------------------------------------------------------- uploads (fault case 46)


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("../../etc/passwd"), b"0" * 2**20, zipfile.ZIP_DEFLATED)
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (zipped(), "zip-compressed"),
        (gzip.compress(b"0" * 2**20, mtime=0), "gzip-compressed"),
        (HEADER + b"1,1,1,batch\n" * 20_002, "more than 20000 rows"),
        (b"x" * (2 * 2**20 + 1), "larger than 2 MiB"),
        (HEADER + b"0,=HYPERLINK(1),5,batch", "evil.csv:2: prompt must be a whole number"),
        (HEADER + b'0,5,5,=cmd|"/c calc"!A1', "class .* is unknown"),
        (HEADER + b"0,1e9,5,batch", "prompt must be a whole number of tokens from 1 to 10000000"),
        (HEADER + b"0,NaN,5,batch", "prompt must be"),
        (HEADER + b"1e300,5,5,batch\n0,5,5,batch", "a day is the most"),
        (HEADER + b"0,5", "the row ends before"),
        (b"\xff\xfe0\x00", "not text"),
        (b"\xff\xff,1", "not a text file"),
        (b"", "unknown columns"),
        (b"a,b,c\n1,2,3", "unknown columns a, b, c"),
        (HEADER + b'0,5,5,"' + b"x" * 200_000, "field larger"),
    ],
)
def test_a_hostile_upload_is_refused_with_the_reason(content, says):
    with pytest.raises(services.WhatIfError, match=says) as caught:
        services.upload_trace(name="../../evil.csv", content=content, actor="ann")
    assert caught.value.field == "file"
    assert "/tmp" not in str(caught.value)
    assert not WhatIfTrace.objects.exists()


def test_a_file_name_is_a_label_and_only_numbers_are_kept():
    kept = services.upload_trace(name="..\\..\\=cmd<b>.csv", content=rows(2), actor="ann")
    assert kept.name == "cmd_b_.csv"
    lines = bytes(kept.content).decode().splitlines()
    assert lines == ["arrival,prompt,output,class", "0.0,200,50,batch", "0.05,500,50,batch"]
    assert (kept.rows, kept.prompt_tokens, kept.output_tokens) == (2, 700, 100)


def test_one_person_keeps_so_many_traces_and_no_more(settings):
    settings.WHAT_IF_MAX_TRACES = 2
    first, _ = trace(), trace()
    with pytest.raises(services.QuotaError, match="keeps 2 traces"):
        trace()
    services.delete_trace(trace=first, actor="ann")
    trace()


def test_finished_requests_become_a_trace_without_their_failures(chat_pool):
    for number in range(4):
        moment = NOW + timedelta(seconds=number)
        RequestRecord.objects.create(
            request_id=f"r-{number}",
            model=chat_pool.served_model if number else "another",
            slo_class_served="interactive" if number < 3 else "gone",
            arrived_at=moment,
            finished_at=moment,
            prompt_tokens=10 * number,
            output_tokens=5,
            end_to_end_ms=1.0,
        )
    kept = services.record_trace(pool=chat_pool, since=NOW, until=NOW + timedelta(hours=1), actor="ann")
    lines = bytes(kept.content).decode().splitlines()[1:]
    assert lines == ["0.0,10,5,interactive", "1.0,20,5,interactive", "2.0,30,5,standard"]
    with pytest.raises(services.WhatIfError, match="finished no request"):
        services.record_trace(
            pool=chat_pool, since=NOW - timedelta(days=2), until=NOW - timedelta(days=1), actor="ann"
        )


# --------------------------------------------------------------- jobs


@pytest.mark.django_db(transaction=True)
def test_two_policies_are_simulated_in_a_process_of_their_own(chat_pool):
    asked = job(chat_pool)
    assert services.carry_out_what_if(asked.pk) == "done"
    asked.refresh_from_db()
    first, second = asked.result["systems"]
    assert (first["name"], second["name"]) == ("infaas++", "ours")
    for system in (first, second):
        assert system["metrics"]["service"]["all"]["requests"] == 60
        assert len(system["series"]["at_s"]) == len(system["series"]["used_share"])
        assert system["prefill_ccdf"][0][1] == 1.0
    assert asked.result["times_better"][0]["request_p99_s"] == pytest.approx(1.0)
    assert services.carry_out_what_if(asked.pk) == "not to be done"
    assert AuditEntry.objects.filter(action="what_if.start", object_id=str(asked.pk)).exists()


@pytest.mark.django_db(transaction=True)
def test_a_simulation_that_takes_too_long_is_ended_and_the_worker_goes_on(chat_pool, settings):
    settings.WHAT_IF_TIMEOUT_S = 0
    asked = job(chat_pool)
    assert services.carry_out_what_if(asked.pk) == "failed"
    asked.refresh_from_db()
    assert asked.problem == "the simulation took longer than 0 s and was ended"


@pytest.mark.django_db(transaction=True)
def test_a_simulation_that_cannot_be_says_why(chat_pool):
    asked = job(chat_pool)
    WhatIfJob.objects.filter(pk=asked.pk).update(latency="nowhere")
    assert services.carry_out_what_if(asked.pk) == "failed"
    asked.refresh_from_db()
    assert "nowhere" in asked.problem


def test_a_cancelled_job_is_not_begun(chat_pool):
    asked = services.cancel_what_if(job=job(chat_pool), actor="ann")
    assert services.carry_out_what_if(asked.pk) == "not to be done"
    asked.refresh_from_db()
    assert asked.state == "cancelled"


def test_a_job_whose_worker_died_is_told_so(chat_pool, settings):
    asked = job(chat_pool)
    WhatIfJob.objects.update(state="running", started_at=NOW)
    patience = Patience(180.0)
    assert services.close_lost_what_ifs(patience=patience, now_s=0.0, now=NOW) == 0
    assert services.close_lost_what_ifs(patience=patience, now_s=181.0, now=NOW) == 1
    asked.refresh_from_db()
    assert (asked.state, asked.problem) == ("failed", "its worker ended before it did; start it again")


def test_one_person_may_have_two_under_way(chat_pool):
    running = [job(chat_pool) for _ in range(2)]
    with pytest.raises(services.QuotaError, match="ann has 2 simulations under way"):
        job(chat_pool)
    job(chat_pool, actor="bob")
    services.cancel_what_if(job=running[0], actor="ann")
    job(chat_pool)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"instances": 0}, "instances"),
        ({"instances": 65}, "instances"),
        ({"latency": "../../etc/passwd"}, "latency"),
        ({"policies": PAIR[:1]}, "policies"),
        ({"policies": [{"version": 9}, PAIR[0]]}, "policies.0"),
        ({"policies": [PAIR[0], {"config": {"queue": {"max_skips": -1}}}]}, "policies.1.queue.max_skips"),
    ],
)
def test_a_bad_question_names_its_field(chat_pool, changes, field):
    with pytest.raises(services.WhatIfError) as caught:
        job(chat_pool, **changes)
    assert caught.value.field == field
    assert not WhatIfJob.objects.exists()


def test_versions_can_be_compared_by_number(chat_pool):
    version = services.create_policy_version(pool=chat_pool, config={"policy": "llumdeck"}, actor="ann")
    builders.instance(of=chat_pool)
    asked = job(chat_pool, policies=[{"version": version.version}, PAIR[0]], instances=None)
    assert asked.policies[0] == {"name": "version 1 (llumdeck)", "config": version.config}
    assert asked.instances == 1
    json.dumps(asked.policies)
