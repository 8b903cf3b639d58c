"""What an agent left in its log, for people who must find out why it failed."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

TAIL_LINES = 40
LARGEST_TAIL_BYTES = 16_384
LINE_LIMIT = 400


def log_path(instance_id: str) -> Path:
    """Where the agent writes; on another node than ours the file is there."""
    return Path(settings.STATE_DIR) / "logs" / f"agent-{instance_id}.log"


def log_tail(instance_id: str, lines: int = TAIL_LINES) -> str:
    """The last lines of an agent's log; empty when there is none on this machine."""
    try:
        with log_path(instance_id).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max(LARGEST_TAIL_BYTES, 256 * lines)))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(_printable(line) for line in text.splitlines()[-lines:])


def _printable(line: str) -> str:
    """One line without control characters (a log may hold what a request said)."""
    return "".join(each if each.isprintable() or each == "\t" else "�" for each in line[:LINE_LIMIT])
