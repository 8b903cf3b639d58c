from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from controlplane.fleet import ray_agents
from controlplane.rebalancing import services, tasks
from controlplane.rebalancing.models import RequestMigration
from controlplane.records.models import PoolHistory, RequestRecord
from controlplane.redis_client import RedisError
from tests.controlplane.builders import outcome

pytestmark = pytest.mark.django_db


def test_the_task_of_a_worker_that_stops_leads_nobody(live_redis, monkeypatch):
    monkeypatch.setattr(ray_agents.connection, "ready", lambda *, timeout_s: False)
    monkeypatch.setattr(tasks.stopping, "is_set", lambda: True)
    assert tasks.run_rebalancing_loop() == "stopped"
    assert live_redis.get("llumdeck:loop:lease") is None


def test_the_loops_task_is_acknowledged_early_on_its_own_queue(settings):
    name = tasks.run_rebalancing_loop.name
    assert tasks.run_rebalancing_loop.acks_late is False
    assert settings.CELERY_TASK_ROUTES[name] == {"queue": "loop"}
    beat = settings.CELERY_BEAT_SCHEDULE["rebalancing-loop"]
    assert (beat["task"], beat["options"]["queue"]) == (name, "loop")
    assert beat["options"]["expires"] < beat["schedule"]


def test_every_scheduled_task_exists_and_expires_before_the_next(settings):
    from console.celery import app

    app.loader.import_default_modules()
    for entry in settings.CELERY_BEAT_SCHEDULE.values():
        assert entry["task"] in app.tasks
        assert entry["options"]["expires"] < entry["schedule"]


def test_expired_history_is_deleted(settings):
    now = timezone.now()
    days = settings.RETENTION_DAYS
    for name, age in (("old", days + 1), ("new", days - 1)):
        moment = now - timedelta(days=age)
        services.apply_outcomes([outcome(name, "done", at_s=moment.timestamp())])
        RequestRecord.objects.create(
            request_id=name,
            arrived_at=moment,
            finished_at=moment,
            prompt_tokens=1,
            output_tokens=1,
            end_to_end_ms=1.0,
        )
    tasks.delete_expired_history()
    assert [row.migration_id for row in RequestMigration.objects.all()] == ["new"]
    assert [row.request_id for row in RequestRecord.objects.all()] == ["new"]


class Looks:
    """A worker that stands by for so many looks, and what it did in each."""

    def __init__(self, monkeypatch, *answers) -> None:
        self.answers, self.led = list(answers), 0
        monkeypatch.setattr(tasks, "lease_holder", self.holder)
        monkeypatch.setattr(tasks, "lead", self.lead)
        monkeypatch.setattr(tasks.stopping, "is_set", lambda: not self.answers)
        monkeypatch.setattr(tasks.stopping, "wait", lambda _: None)

    def holder(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def lead(self) -> str:
        self.led += 1
        if self.led == 1:
            raise ZeroDivisionError
        return "the lease was lost"


def test_a_worker_stands_by_and_leads_as_soon_as_nobody_does(monkeypatch):
    looks = Looks(monkeypatch, "another", RedisError("away"), "", "another", "")
    tasks._stand_by()
    assert looks.led == 2


def test_one_process_leads_once(live_redis):
    with tasks._leading:
        assert tasks.lead() == "leads already"


def test_history_goes_on_without_redis(settings, live_redis):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    tasks.record_history()
    assert not PoolHistory.objects.exists()
