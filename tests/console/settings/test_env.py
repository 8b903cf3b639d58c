from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from console.settings import env

ROOT = Path(__file__).resolve().parents[3]


def test_sqlite_waits_writes_ahead_and_takes_its_lock_at_the_start():
    parsed = env.parse_database_url("sqlite:////data/fleet.sqlite3")
    assert parsed["NAME"] == "/data/fleet.sqlite3"
    assert parsed["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "journal_mode=WAL" in parsed["OPTIONS"]["init_command"]
    assert parsed["OPTIONS"]["timeout"] > 0


def test_a_postgresql_url_is_taken_apart():
    parsed = env.parse_database_url("postgresql://ann:p%40ss@db.example:6432/fleet?sslmode=require")
    assert (parsed["USER"], parsed["PASSWORD"], parsed["HOST"], parsed["PORT"], parsed["NAME"]) == (
        "ann",
        "p@ss",
        "db.example",
        "6432",
        "fleet",
    )
    assert parsed["OPTIONS"]["sslmode"] == "require"


def test_a_socket_folder_can_be_the_host():
    assert env.parse_database_url("postgres://ann@/fleet?host=/run/pg")["HOST"] == "/run/pg"


@pytest.mark.parametrize("url", ["", "mysql://x/y", "fleet.db", "postgresql://host"])
def test_a_bad_database_url_says_what_would_be_right(url):
    with pytest.raises(ImproperlyConfigured, match="DATABASE_URL"):
        env.parse_database_url(url)


@pytest.mark.parametrize(("raw", "value"), [("1", True), ("yes", True), ("off", False), ("", False)])
def test_flags(monkeypatch, raw, value):
    monkeypatch.setenv("LLUMDECK_FLAG", raw)
    assert env.boolean("LLUMDECK_FLAG", not value) is value


@pytest.mark.parametrize("raw", ["maybe", "2"])
def test_a_bad_flag_is_named(monkeypatch, raw):
    monkeypatch.setenv("LLUMDECK_FLAG", raw)
    with pytest.raises(ImproperlyConfigured, match="LLUMDECK_FLAG"):
        env.boolean("LLUMDECK_FLAG", False)


@pytest.mark.parametrize("raw", ["fast", "49", "10001", "1.5"])
def test_a_bad_number_is_named_with_its_range(monkeypatch, raw):
    monkeypatch.setenv("LLUMDECK_TICK_INTERVAL_MS", raw)
    with pytest.raises(ImproperlyConfigured, match=r"LLUMDECK_TICK_INTERVAL_MS.*50 to 10000"):
        env.integer("LLUMDECK_TICK_INTERVAL_MS", 200, low=50, high=10_000)


def test_a_secret_may_lie_in_a_file(monkeypatch, tmp_path):
    (tmp_path / "key").write_text("s3cret\n")
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "key"))
    assert env.secret_key(tmp_path) == "s3cret"
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ImproperlyConfigured, match="SECRET_KEY_FILE"):
        env.secret_key(tmp_path)


def test_a_secret_key_is_made_once_and_for_us_alone(monkeypatch, tmp_path):
    monkeypatch.delenv("SECRET_KEY", raising=False)
    monkeypatch.delenv("SECRET_KEY_FILE", raising=False)
    made = env.secret_key(tmp_path)
    assert len(made) > 50
    assert env.secret_key(tmp_path) == made
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0


def test_postgresql_gives_up_locks_and_idle_transactions_unless_told_otherwise():
    plain = env.parse_database_url("postgresql://h/n")["OPTIONS"]["options"]
    assert "lock_timeout" in plain
    assert "idle_in_transaction_session_timeout" in plain
    told = env.parse_database_url("postgresql://h/n?options=-c%20lock_timeout%3D1")["OPTIONS"]["options"]
    assert told == "-c lock_timeout=1"
