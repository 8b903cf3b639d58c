"""Build the front end into ``frontend/dist``; at once when its sources have not changed.

Takes the Node that is there when it is new enough, else the one that pip can install
(``requirements/node.lock``). ``--check`` runs lint, types and unit tests first.
Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from install import PROJECT, VENV, install
from system_packages import SetupError, say

FRONTEND = PROJECT / "frontend"
OUTPUT = FRONTEND / "dist"
MODULES = FRONTEND / "node_modules"
NOT_SOURCES = {"node_modules", "dist", "coverage"}
RUNBOOKS = PROJECT / "docs" / "runbooks.md"
"""Shown by the console, so part of its sources."""
OLDEST_NODE = (20, 19)
CHECKS = ("lint", "test")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run lint, types and unit tests, then build")
    options = parser.parse_args()
    try:
        if options.check:
            check()
        build()
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    return 0


def build() -> None:
    sources = hash_of_sources()
    stamp = OUTPUT / ".sources"
    if stamp.exists() and stamp.read_text() == sources:
        return
    node = install_packages()
    say("building the front end ...")
    npm(node, "run", "build", quiet=True)
    stamp.write_text(sources)


def check() -> None:
    node = install_packages()
    for name in CHECKS:
        npm(node, "run", name)


def install_packages() -> Path:
    """``npm ci`` when the lock changed; returns the folder of ``node`` and ``npm``."""
    node = node_folder()
    lock = hashlib.sha256((FRONTEND / "package-lock.json").read_bytes()).hexdigest()
    stamp = MODULES / ".installed"
    if not stamp.exists() or stamp.read_text() != lock:
        say("installing the front end's packages (npm ci) ...")
        npm(node, "ci", "--no-audit", "--no-fund", quiet=True)
        stamp.write_text(lock)
    return node


def node_folder() -> Path:
    found = shutil.which("node")
    if found and shutil.which("npm") and node_version(found) >= OLDEST_NODE:
        return Path(found).parent
    say(f"no Node of at least {'.'.join(map(str, OLDEST_NODE))} found: installing one into {VENV.name}")
    install("node", "")
    return VENV / "bin"


def node_version(node: str) -> tuple[int, int]:
    printed = subprocess.run([node, "--version"], check=False, capture_output=True, text=True).stdout
    match = re.match(r"v(\d+)\.(\d+)", printed)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def npm(node: Path, *arguments: str, quiet: bool = False) -> None:
    """Run npm with its own Node first on the path; its words are shown when it fails."""
    line = ["env", f"PATH={node}:/usr/local/bin:/usr/bin:/bin", str(node / "npm"), *arguments]
    done = subprocess.run(line, cwd=FRONTEND, check=False, capture_output=quiet, text=True)
    if done.returncode != 0:
        if quiet:
            print((done.stdout + done.stderr)[-6000:], file=sys.stderr)
        raise SetupError(f"npm {' '.join(arguments)} failed in {FRONTEND.name}/: see above")


def hash_of_sources() -> str:
    digest = hashlib.sha256()
    digest.update(RUNBOOKS.read_bytes())
    for path in sorted(FRONTEND.rglob("*")):
        inside = path.relative_to(FRONTEND)
        if inside.parts[0] not in NOT_SOURCES and path.is_file():
            digest.update(str(inside).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
