from __future__ import annotations

import pytest
from django.db import OperationalError, connection


def test_a_process_that_answers_is_alive(client):
    assert client.get("/healthz").json() == {"status": "ok"}


@pytest.mark.django_db
def test_a_console_with_database_and_redis_is_ready(client, live_redis):
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "database": "ok", "redis": "ok"}


@pytest.mark.django_db
def test_without_redis_it_is_not_ready_and_says_so(client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["redis"].startswith("does not answer")


@pytest.mark.django_db
def test_without_the_database_it_is_not_ready_and_says_so(client, live_redis, monkeypatch):
    def broken():
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", broken)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["database"].startswith("does not answer")
