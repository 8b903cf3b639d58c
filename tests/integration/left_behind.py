"""What a machine holds outside of any process: compared before and after."""

from __future__ import annotations

import tempfile
from pathlib import Path

UNIX_SOCKETS = Path("/proc/net/unix")


def shared_memory() -> set[str]:
    return {each.name for each in Path("/dev/shm").iterdir()}


def temporary_files() -> set[str]:
    return {each.name for each in Path(tempfile.gettempdir()).iterdir()}


def sockets_under(path: Path) -> list[str]:
    return [line for line in UNIX_SOCKETS.read_text().splitlines() if str(path) in line]
