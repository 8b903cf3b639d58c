"""The installer's judgement: where packages come from, when there is nothing to do, what it refuses."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(PROJECT / "requirements"))
    import install

    monkeypatch.setattr(install, "VENV", tmp_path / "venv")
    monkeypatch.setattr(install, "PYTHON", tmp_path / "venv" / "bin" / "python")
    return install


def configured(monkeypatch: pytest.MonkeyPatch, install: ModuleType, *lines: str) -> None:
    """Let pip print these settings."""
    printed = SimpleNamespace(stdout="\n".join(lines) + "\n", returncode=0)
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: printed)


def test_pips_places_are_handed_on(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured(
        monkeypatch,
        install,
        "global.index-url='https://example.org/simple'",
        "global.extra-index-url='https://one.example.org\\nhttps://two.example.org'",
        f"global.find-links='{tmp_path} /no/such/folder'",
        "global.cert='/etc/cert.pem'",
    )
    options = install.package_sources(without_cpu_torch=False)
    pairs = list(itertools.pairwise(options))
    assert ("--default-index", "https://example.org/simple") in pairs
    assert ("--index", "https://one.example.org") in pairs and ("--index", "https://two.example.org") in pairs
    assert ("--find-links", str(tmp_path)) in pairs and "/no/such/folder" not in options
    assert install.certificate() == ["env", "SSL_CERT_FILE=/etc/cert.pem"]


def test_variables_win_over_files(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    configured(monkeypatch, install, ":env:.index-url='https://variable'", "global.index-url='https://file'")
    assert install.pip_settings()["index-url"] == "https://variable"


def test_a_folder_with_cpu_torch_is_nothing_for_gpus(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl").touch()
    configured(monkeypatch, install, f"global.find-links='{tmp_path}'")
    assert str(tmp_path) in install.package_sources(without_cpu_torch=False)
    assert str(tmp_path) not in install.package_sources(without_cpu_torch=True)


def test_cpu_torch_comes_from_the_vendor_only_where_pips_places_lack_it(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    assert install.torch_source("https://vendor/cpu/") == []
    monkeypatch.setattr(install.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    assert install.torch_source("https://vendor/cpu/") == ["--find-links", "https://vendor/cpu/torch/"]
    with pytest.raises(install.SetupError, match="TORCH_CPU_INDEX"):
        install.torch_source("")


def test_nothing_is_done_twice_and_a_larger_flavour_holds_a_smaller(install: ModuleType) -> None:
    install.PYTHON.parent.mkdir(parents=True)
    install.PYTHON.touch()
    assert not install.is_installed("cpu")
    install.stamp_of("dev").write_text(install.lock_hash("dev"))
    assert install.is_installed("dev") and install.is_installed("cpu") and install.is_installed("control")
    assert not install.is_installed("gpu")
    install.stamp_of("dev").write_text("another lock")
    assert not install.is_installed("cpu")


def test_another_python_is_refused_with_what_to_do(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.sys, "version_info", (3, 13, 1))
    with pytest.raises(install.SetupError, match=r"Python 3\.11 is needed, this is 3\.13\.1.*PYTHON="):
        install.check_python()


def test_a_missing_venv_module_names_its_package(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(install.SetupError, match=r"apt-get install python3\.11-venv"):
        install.check_python()


def test_the_installer_needs_nothing_but_python() -> None:
    for name in ("install", "build_frontend", "system_packages"):
        line = [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, 'requirements'); import {name}",
        ]
        subprocess.run(line, cwd=PROJECT, check=True)
