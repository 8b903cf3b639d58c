"""What the Makefile's options come to, without running anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent


def dry_run(*arguments: str) -> str:
    line = ["make", "--dry-run", "--no-print-directory", *arguments]
    return subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["up", "demo"])
def test_options_become_arguments(target: str) -> None:
    said = dry_run(
        target, "ENGINES=3", "MODEL=/a b/m", "CONSOLE_PORT=1", "GATEWAY_PORT=2", "STATE_DIR=/s", "ARGS=--x"
    )
    assert f"LLUMDECK_STATE_DIR='/s' .venv/bin/python manage.py {target}" in said
    assert "--engines 3" in said and "--model '/a b/m'" in said and "--x" in said
    assert "--console-port 1" in said and "--gateway-port 2" in said


def test_options_not_given_are_not_passed_on() -> None:
    (last,) = [line for line in dry_run("up").splitlines() if "manage.py" in line]
    assert last.split() == ["exec", ".venv/bin/python", "manage.py", "up"]


@pytest.mark.parametrize("name", ["REDIS_URL", "DATABASE_URL", "RAY_ADDRESS"])
def test_urls_reach_the_commands_when_given_and_only_then(name: str, tmp_path: Path) -> None:
    probe = tmp_path / "probe.mk"
    probe.write_text(f"include {PROJECT}/Makefile\nprobe:\n\t@env\n")
    line = ["make", "--no-print-directory", "-f", str(probe), "probe"]
    environment = {key: value for key, value in os.environ.items() if key != name}
    without = subprocess.run(line, env=environment, capture_output=True, text=True, check=True).stdout
    given = subprocess.run(
        [*line, f"{name}=x://y"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert f"\n{name}=" not in without
    assert f"\n{name}=x://y\n" in given


def test_every_target_that_help_names_exists() -> None:
    for target in (
        "up",
        "demo",
        "setup",
        "test",
        "test-all",
        "lint",
        "format",
        "unit",
        "integration",
        "browser",
        "lock",
        "clean",
    ):
        dry_run(target)
