"""Set up ``.venv`` from a lock, with nothing but Python 3.11: what ``make setup`` runs.

pip installs one pinned tool (uv) into a fresh virtual environment; uv installs the
lock of the wanted flavour (``cpu``, ``gpu``, ``control``, ``dev``) with every hash
checked. Where packages come from is pip's own configuration (index, extra indexes,
wheel folders, certificate), handed on to uv, which would not read it. CPU torch is
taken from there, too, where it is to be had, else from the vendor's CPU index.

A stamp in the environment holds the hash of each installed lock, so that there is
nothing to do the next time. Standard library only: it runs before anything is there.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from system_packages import SetupError, need_libnuma, say

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
CONFLICTING = {"cpu": "gpu", "dev": "gpu", "gpu": "cpu"}
"""Two flavours that cannot share an environment: they bring different builds of torch and vLLM."""
INCLUDES = {"cpu": ("dev",), "control": ("dev", "cpu", "gpu")}
"""Flavours that hold all of another one."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flavour", choices=["auto", "cpu", "gpu", "control", "dev", "node"])
    parser.add_argument("--torch-cpu-index", default="", help="where CPU torch is, if pip's places lack it")
    options = parser.parse_args()
    flavour = ("gpu" if has_nvidia_gpu() else "cpu") if options.flavour == "auto" else options.flavour
    try:
        install(flavour, options.torch_cpu_index)
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    return 0


def has_nvidia_gpu() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/version").exists()


def install(flavour: str, torch_cpu_index: str) -> None:
    """Bring the environment to ``flavour``; at once when it is there. Raises ``SetupError``."""
    if is_installed(flavour):
        return
    started = time.monotonic()
    check_python()
    if flavour in ("cpu", "dev"):
        need_libnuma()
    make_environment(flavour)
    install_uv()
    say(f"installing requirements/{flavour}.lock (every hash checked) ...")
    options = package_sources(without_cpu_torch=flavour == "gpu")
    if flavour in ("cpu", "dev"):
        options += torch_source(torch_cpu_index)
    install_lock(flavour, options)
    stamp_of(flavour).write_text(lock_hash(flavour))
    say(f"{flavour} environment ready after {time.monotonic() - started:.0f} s")


def is_installed(flavour: str) -> bool:
    held = (flavour, *INCLUDES.get(flavour, ()))
    return PYTHON.exists() and any(is_current(name) for name in held)


def is_current(flavour: str) -> bool:
    stamp = stamp_of(flavour)
    return stamp.exists() and stamp.read_text() == lock_hash(flavour)


def stamp_of(flavour: str) -> Path:
    return VENV / f".installed-{flavour}"


def lock_of(flavour: str) -> Path:
    return HERE / f"{flavour}.lock"


def lock_hash(flavour: str) -> str:
    return hashlib.sha256(lock_of(flavour).read_bytes()).hexdigest()


def check_python() -> None:
    if sys.version_info[:2] != (3, 11):
        version = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Python 3.11 is needed, this is {version}: name one with make PYTHON=/path/to/python3.11"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise SetupError("this Python has no venv/ensurepip: apt-get install python3.11-venv") from None


def make_environment(flavour: str) -> None:
    rival = CONFLICTING.get(flavour, "")
    if rival and any(stamp_of(name).exists() for name in (rival, *INCLUDES.get(rival, ()))):
        say(f"replacing the {rival} environment by a {flavour} one")
        shutil.rmtree(VENV)
    if PYTHON.exists() and works(PYTHON):
        return
    say(f"making {VENV.name} with {sys.executable}")
    shutil.rmtree(VENV, ignore_errors=True)
    result = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)], check=False, capture_output=True, text=True
    )
    if result.returncode != 0:
        hint = "apt-get install python3.11-venv" if "ensurepip" in result.stdout + result.stderr else ""
        raise SetupError(f"the virtual environment could not be made: {hint or last_line(result.stderr)}")


def works(python: Path) -> bool:
    """A virtual environment that was moved or lost its interpreter does not; pip must be there, too."""
    line = [str(python), "-c", "import pip, sys; sys.exit(sys.prefix == sys.base_prefix)"]
    return subprocess.run(line, check=False, capture_output=True).returncode == 0


def install_uv() -> None:
    if is_current("bootstrap"):
        return
    say("installing uv (pinned) with pip")
    line = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    line += ["--require-hashes", "--requirement", str(lock_of("bootstrap"))]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        raise SetupError("pip could not install uv: see its message above (no network, or no package index?)")
    stamp_of("bootstrap").write_text(lock_hash("bootstrap"))


def install_lock(flavour: str, options: list[str]) -> None:
    line = [
        str(VENV / "bin" / "uv"),
        "pip",
        "install",
        "--python",
        str(PYTHON),
        "--no-deps",
        "--require-hashes",
    ]
    line += ["--no-build", "--compile-bytecode", *options, "--requirement", str(lock_of(flavour))]
    if not sys.stderr.isatty():
        line.append("--quiet")  # its progress bars are for a terminal, its list of packages for nobody
    if subprocess.run([*certificate(), *line], check=False).returncode != 0:
        raise SetupError(f"requirements/{flavour}.lock could not be installed: see uv's message above")


def pip_settings() -> dict[str, str]:
    """pip's settings from its files and variables, e.g. ``{"find-links": "/wheels"}``; variables win."""
    line = [str(PYTHON), "-m", "pip", "config", "list"]
    printed = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    found: dict[str, str] = {}
    for scope in ("global", "install", ":env:"):
        pattern = rf"^{re.escape(scope)}\.\.?([a-z-]+)='(.*)'$"
        found.update(re.findall(pattern, printed, flags=re.MULTILINE))
    return found


def package_sources(*, without_cpu_torch: bool) -> list[str]:
    """uv's options for the places that pip is configured to take packages from.

    ``without_cpu_torch``: a CPU build counts as newer than the plain one of the same version, so
    folders that hold one are left out where the plain one is wanted.
    """
    settings = pip_settings()
    options = ["--index-strategy", "unsafe-best-match"]  # as pip does; the hashes decide in any case
    if "index-url" in settings:
        options += ["--default-index", settings["index-url"]]
    for url in words(settings.get("extra-index-url", "")):
        if not is_missing_folder(url):
            options += ["--index", url]
    for place in words(settings.get("find-links", "")):
        if not is_missing_folder(place) and not (without_cpu_torch and holds_cpu_torch(place)):
            options += ["--find-links", place]
    for host in words(settings.get("trusted-host", "")):
        options += ["--allow-insecure-host", host]
    return options


def words(text: str) -> list[str]:
    """Several values of one pip setting stand on lines or behind blanks, in files written as ``\\n``."""
    return text.replace("\\n", " ").split()


def is_missing_folder(place: str) -> bool:
    path = place.removeprefix("file://")
    return path.startswith("/") and not Path(path).is_dir()


def holds_cpu_torch(place: str) -> bool:
    return any(Path(place.removeprefix("file://")).glob("torch-*+cpu-*.whl"))


def certificate() -> list[str]:
    path = pip_settings().get("cert")
    return ["env", f"SSL_CERT_FILE={path}"] if path else []


def torch_source(torch_cpu_index: str) -> list[str]:
    """Nothing where pip's own places have the locked CPU torch, else the vendor's page of its files."""
    version = locked_version("cpu", "torch")
    probe = [str(PYTHON), "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed"]
    probe.append(f"torch=={version}")
    if subprocess.run(probe, check=False, capture_output=True).returncode == 0:
        return []
    if not torch_cpu_index:
        raise SetupError(
            f"torch {version} is in none of pip's places: set TORCH_CPU_INDEX to the vendor's CPU index"
        )
    say(f"taking torch {version} from {torch_cpu_index}")
    return ["--find-links", f"{torch_cpu_index.rstrip('/')}/torch/"]


def locked_version(flavour: str, name: str) -> str:
    match = re.search(rf"^{name}==(\S+)", lock_of(flavour).read_text(), flags=re.MULTILINE)
    if match is None:
        raise SetupError(f"requirements/{flavour}.lock names no {name}: make it again with make lock")
    return match.group(1)


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


if __name__ == "__main__":
    raise SystemExit(main())
