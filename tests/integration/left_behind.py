"""What processes hold outside of themselves, looked for after their end."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable
from pathlib import Path

import psutil

UNIX_SOCKETS = Path("/proc/net/unix")
SHARED_MEMORY = "/dev/shm/"


def shared_memory_of(processes: Iterable[psutil.Process]) -> list[Path]:
    """Segments that they have mapped or open, and that have a name."""
    found: set[str] = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found |= {each.path for each in process.memory_maps() if each.path.startswith(SHARED_MEMORY)}
            found |= {each.path for each in process.open_files() if each.path.startswith(SHARED_MEMORY)}
    return [Path(each) for each in sorted(found) if Path(each).exists()]


def temporary_files() -> set[str]:
    """Ray's default folder. All else goes to the run directory, which is every child's ``TMPDIR``."""
    return {each.name for each in Path(tempfile.gettempdir()).iterdir() if each.name == "ray"}


def files_at_home() -> set[str]:
    """Ray keeps its token there, unless told otherwise."""
    return {str(each) for each in (Path.home() / ".ray").rglob("*")}


LOOKS = {"temporary files": temporary_files, "home": files_at_home}


def sockets_under(path: Path) -> list[str]:
    return [line for line in UNIX_SOCKETS.read_text().splitlines() if str(path) in line]
