"""No Docker engine here: what the files under ``docker/`` name must exist in the project."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

PROJECT = Path(__file__).resolve().parent.parent.parent
DOCKER = PROJECT / "docker"
DOCKERFILES = sorted(DOCKER.glob("Dockerfile.*"))
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
READ_BY_OTHERS = {
    *("POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"),
    *("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED", "DJANGO_SETTINGS_MODULE"),
    *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH"),
}
"""Variables of PostgreSQL, Ray, Django and Python themselves."""


def instructions(path: Path) -> list[tuple[str, str]]:
    """(INSTRUCTION, rest) of each logical line."""
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def settings_source() -> str:
    return "".join(path.read_text() for path in (PROJECT / "console" / "settings").glob("*.py"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_exists(path: Path) -> None:
    for instruction, rest in instructions(path):
        if instruction != "COPY" or rest.startswith("--from="):
            continue
        for source in rest.split()[:-1]:
            for name in [source.replace("${FLAVOUR}", flavour) for flavour in ("cpu", "gpu")]:
                assert (PROJECT / name).exists(), f"{path.name} copies {name}"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_follow_good_custom(path: Path) -> None:
    lines = instructions(path)
    assert lines[0][0] in {"FROM", "ARG"}
    assert all(":" in rest.split()[0] for name, rest in lines if name == "FROM"), "a base without a version"
    assert [rest for name, rest in lines if name == "USER"][-1:] == ["llumdeck"], "it runs as root"
    assert lines[-1][0] == "CMD" and lines[-1][1].startswith("["), "a shell would eat signals"
    for name, rest in lines:
        if name == "RUN" and "pip install" in rest:
            assert "--require-hashes" in rest and "--no-cache-dir" in rest
        if name == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest and "rm -rf /var/lib/apt/lists" in rest


def test_the_control_image_installs_neither_torch_nor_vllm() -> None:
    lock = (PROJECT / "requirements" / "control.lock").read_text()
    assert not re.search(r"^(torch|vllm)", lock, flags=re.MULTILINE)
    assert "control.lock" in (DOCKER / "Dockerfile.control").read_text()


@pytest.mark.parametrize("name", OURS)
def test_commands_name_modules_and_management_commands_that_exist(name: str) -> None:
    command = OURS[name].get("command", [])
    if command[:2] == ["python", "manage.py"]:
        assert command[2] in get_commands()
    elif command[:2] == ["python", "-m"]:
        assert find_spec(command[2]) is not None
    else:
        assert command == [], f"an unknown kind of command: {command}"


@pytest.mark.parametrize("name", OURS)
def test_dockerfiles_and_arguments_of_builds_exist(name: str) -> None:
    build = OURS[name]["build"]
    path = DOCKER / build["context"] / build["dockerfile"]
    assert path.is_file()
    declared = {rest.split("=")[0] for instruction, rest in instructions(path) if instruction == "ARG"}
    assert set(build.get("args", {})) <= declared


@pytest.mark.parametrize("name", OURS)
def test_variables_are_read_by_the_settings_or_by_known_others(name: str) -> None:
    source = settings_source()
    for variable in OURS[name]["environment"]:
        assert f'"{variable}"' in source or variable in READ_BY_OTHERS, variable


def test_all_processes_share_the_same_settings() -> None:
    first, *others = [service["environment"] for service in OURS.values()]
    assert all(other == first for other in others)
    assert find_spec(first["DJANGO_SETTINGS_MODULE"]) is not None


def test_queues_and_pools_are_those_of_the_project() -> None:
    from django.conf import settings

    from console.process.options import POOL

    queues = {
        service["command"][service["command"].index("-Q") + 1]
        for service in OURS.values()
        if "-Q" in service.get("command", [])
    }
    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    assert queues == routed | {settings.CELERY_TASK_DEFAULT_QUEUE}
    assert POOL in OURS["gateway"]["command"]


def test_dependencies_and_volumes_are_declared() -> None:
    for name, service in SERVICES.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}"
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other]
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]


def test_every_variable_of_the_compose_file_is_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (DOCKER / "example.env").read_text(), flags=re.MULTILINE))
    assert used == given


def test_the_example_holds_no_secret() -> None:
    lines = dict(
        line.split("=", 1)
        for line in (DOCKER / "example.env").read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    assert all(
        not lines[name] for name in ("SECRET_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "RAY_AUTH_TOKEN")
    )
