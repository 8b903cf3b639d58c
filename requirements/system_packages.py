"""Debian packages that no Python or npm registry has: found, or installed when we may.

``python requirements/system_packages.py`` sees to what the tests need (a browser, PostgreSQL).
Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser")


class SetupError(Exception):
    """``str(self)`` is one sentence that says what to do."""


def say(text: str) -> None:
    print(f"[setup] {text}", flush=True)


def need_libnuma() -> None:
    """vLLM's CPU build is linked against libnuma, which not every Debian has."""
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        if not apt_install("libnuma1"):
            raise SetupError("vLLM needs libnuma: sudo apt-get install libnuma1") from None


def need_browser() -> None:
    """The browser tests drive Debian's chromium; its fonts make text measurable."""
    if any(map(shutil.which, BROWSERS)):
        return
    if not apt_install("chromium", "fonts-dejavu-core"):
        raise SetupError("the browser tests need chromium: sudo apt-get install chromium")


def need_postgresql() -> None:
    """Models, services and API are tested on both databases; its server is in no wheel that we trust."""
    places = [*map(str, Path("/usr/lib/postgresql").glob("*/bin")), "/usr/local/bin", "/usr/bin"]
    if shutil.which("initdb", path=os.pathsep.join(places)) or shutil.which("initdb"):
        return
    if not apt_install("postgresql"):
        raise SetupError("the tests need PostgreSQL's server: sudo apt-get install postgresql")


def apt_install(*packages: str) -> bool:
    """Install Debian packages when we may; whether that worked."""
    apt = shutil.which("apt-get")
    if apt is None or not is_root():
        return False
    say(f"apt-get install {' '.join(packages)} ...")
    silent = ["env", "DEBIAN_FRONTEND=noninteractive", apt]
    steps = [[*silent, "update", "-q"], [*silent, "install", "-qy", "--no-install-recommends", *packages]]
    for step in steps:
        done = subprocess.run(step, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stdout[-2000:] + done.stderr[-2000:], file=sys.stderr)
            return False
    return True


def is_root() -> bool:
    return Path("/proc/self").stat().st_uid == 0


def main() -> int:
    try:
        need_browser()
        need_postgresql()
    except SetupError as error:
        print(f"[setup] {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
