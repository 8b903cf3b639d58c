"""What ``make up`` says, and does not leave behind, when it cannot start or is killed itself."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from console.settings.env import run_directory
from tests.integration.running import Stack, eventually, free_ports, is_alive, manage

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


def refusal(tmp_path: Path, *arguments: str, **variables: str) -> str:
    console_port, gateway_port = free_ports(2)
    ports = ("--console-port", str(console_port), "--gateway-port", str(gateway_port))
    done = manage(tmp_path, "up", *ports, *arguments, timeout_s=120, **variables)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def test_a_missing_model_is_said_at_once(tmp_path: Path) -> None:
    assert "neither a folder nor a hub's name" in refusal(tmp_path, "--model", "/no/such/model")


def test_too_little_memory_is_said_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, "--engines", "900")
    assert "900 engines need about" in said and "ENGINES=1" in said


def test_an_unreachable_redis_is_said_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, REDIS_URL=f"unix://{tmp_path / 'nobody.sock'}")
    assert "REDIS_URL" in said and "unset REDIS_URL" in said


def test_an_unreachable_ray_is_said_at_once(tmp_path: Path) -> None:
    assert "RAY_ADDRESS=127.0.0.1:1" in refusal(tmp_path, RAY_ADDRESS="127.0.0.1:1")


def test_a_database_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    said = refusal(tmp_path, DATABASE_URL="sqlite:////no/such/folder/db.sqlite3")
    assert "check DATABASE_URL" in said


@pytest.mark.slow  # Ray takes seconds to start
def test_even_sigkill_leaves_no_process_and_the_next_start_sweeps_the_rest(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.start()
    stack.wait_for("✓ ray")
    living = stack.processes()
    assert len(living) > 5
    stack.stop(signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, living)), 120, "the end of all children")
    run_dir = run_directory(tmp_path)
    assert run_dir.exists()
    refusal(tmp_path, "--engines", "900")
    assert not run_dir.exists()
