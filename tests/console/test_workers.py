"""Webhooks and what-ifs by a real Celery worker: sent, refused, tried again after the pause; simulated."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from console.settings.env import child_environment
from controlplane.alerts import signing
from tests.controlplane.alerts.test_sending import Receiver

# Slow: real processes import everything, and a webhook is tried again after ten seconds.
pytestmark = [pytest.mark.workers, pytest.mark.paced, pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0
PREPARE = """
import json, sys
from django.db import transaction
from django.utils import timezone
from controlplane.alerts import services
from controlplane.fleet.services import create_pool
from controlplane.rebalancing.services import start_what_if, upload_trace
with transaction.atomic():
    hook, secret = services.create_webhook(
        name="pager", url=sys.argv[1], events=["alert.firing"], least_severity="warning", actor="ann")
    services.test_webhook(webhook=hook, actor="ann")
    pool = create_pool(name="chat", served_model="tiny", model_path="tiny", actor="ann")
    rows = "arrival,prompt,output,class\\n" + "\\n".join(f"{n * 0.05},200,50,batch" for n in range(40))
    trace = upload_trace(name="mine.csv", content=rows.encode(), actor="ann")
    pair = [{"config": {"policy": "infaas++"}}, {"name": "ours", "config": {"policy": "llumdeck"}}]
    start_what_if(trace=trace, pool=pool, policies=pair, actor="ann", instances=2)
print(json.dumps({"secret": secret}))
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    server.answers = [(503, "")]
    yield server
    server.close()


@pytest.fixture
def environment(live_redis, redis_url, tmp_path) -> dict[str, str]:
    return child_environment(
        {
            "DJANGO_SETTINGS_MODULE": "console.settings.development",
            "SECRET_KEY": "of-the-workers-test-" * 3,
            "LLUMDECK_STATE_DIR": str(tmp_path),
            "DATABASE_URL": f"sqlite:///{tmp_path / 'worker.sqlite3'}",
            "REDIS_URL": redis_url,
            "RAY_ADDRESS": "127.0.0.1:1",
            "LLUMDECK_WEBHOOK_NETWORKS": "127.0.0.0/8",
            "LLUMDECK_WEBHOOK_HTTPS_ONLY": "false",
        }
    )


def manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def prepare(environment: dict[str, str], url: str) -> dict[str, Any]:
    manage(environment, "migrate", "-v0")
    script = f"import sys; sys.argv = ['', {url!r}]\n{PREPARE}"
    return json.loads(manage(environment, "shell", "-v0", "-c", script).strip().splitlines()[-1])


@pytest.fixture
def worker(environment) -> Iterator[Callable[[], None]]:
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        options = ("-Q", "jobs,whatif", "--pool", "threads", "--concurrency", "2", "-n", "both@%h")
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "console", "worker", *options],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    yield start
    for process in running:
        process.kill()
        process.wait(timeout=PATIENCE_S)


def row(environment: dict[str, str], query: str) -> dict[str, Any]:
    path = environment["DATABASE_URL"].removeprefix("sqlite:///")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as connection:
        connection.row_factory = sqlite3.Row
        return dict(connection.execute(query).fetchone())


def eventually(
    environment: dict[str, str], query: str, over: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        found = row(environment, query)
        if over(found):
            return found
        assert time.monotonic() < deadline_s, found
        time.sleep(0.1)


def test_a_worker_tells_webhooks_again_after_a_pause_and_simulates(environment, live_redis, receiver, worker):
    made = prepare(environment, receiver.url)
    waiting = {name: live_redis.llen(f"llumdeck:celery:{name}") for name in ("jobs", "whatif", "loop")}
    assert waiting == {"jobs": 1, "whatif": 1, "loop": 0}
    worker()

    log = "SELECT state, attempts, status, problem FROM alerts_delivery"
    first = eventually(environment, log, lambda found: found["attempts"] >= 1)
    if first["attempts"] == 1:  # A machine that is slow enough sees the second one only.
        assert (first["state"], first["status"], first["problem"]) == ("waiting", 503, "answered 503")
    asked = "SELECT state, problem, result FROM rebalancing_whatifjob"
    job = eventually(environment, asked, lambda found: found["state"] not in ("queued", "running"))
    assert (job["state"], job["problem"]) == ("done", "")
    assert [each["name"] for each in json.loads(job["result"])["systems"]] == ["infaas++", "ours"]

    second = eventually(environment, log, lambda found: found["state"] != "waiting")
    assert (second["state"], second["attempts"], second["status"]) == ("delivered", 2, 200)
    times = []
    for _, headers, body in receiver.heard:
        header = headers[signing.HEADER]
        times.append(int(dict(part.split("=") for part in header.split(","))["t"]))
        assert signing.is_genuine(made["secret"], body, header, now_s=time.time(), tolerance_s=600)
        assert json.loads(body)["event"] == headers["Llumdeck-Event"]
    assert len(times) == 2
    assert times[1] - times[0] >= 10
