"""What a machine holds outside of any process: compared before and after."""

from __future__ import annotations

import tempfile
from pathlib import Path

UNIX_SOCKETS = Path("/proc/net/unix")


def shared_memory() -> set[str]:
    return {each.name for each in Path("/dev/shm").iterdir()}


def temporary_files() -> set[str]:
    """Those that could be ours: other programs of the machine write there, too. Ray's default is ``ray``."""
    names = {each.name for each in Path(tempfile.gettempdir()).iterdir()}
    return {
        name for name in names if name == "ray" or any(word in name for word in ("llumdeck", "vllm", "torch"))
    }


def files_at_home() -> set[str]:
    """Ray keeps its token there, unless told otherwise."""
    return {str(each) for each in (Path.home() / ".ray").rglob("*")}


LOOKS = {"shared memory": shared_memory, "temporary files": temporary_files, "home": files_at_home}


def sockets_under(path: Path) -> list[str]:
    return [line for line in UNIX_SOCKETS.read_text().splitlines() if str(path) in line]
