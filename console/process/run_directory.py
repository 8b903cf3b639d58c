"""What exists only while the stack runs: a short directory of sockets, a lock, a note on who runs.

The lock lies in the state directory: two stacks on one state would share a database and
a Redis. It is the kernel's, so a killed owner leaves none behind, and what such an owner
left in the run directory is swept by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from console.process.failure import StackError


class RunDirectory:
    """Held by one process at a time."""

    def __init__(self, path: Path, state_dir: Path) -> None:
        self.path = path
        self._lock_path = state_dir / "up.lock"
        self._lock: TextIO | None = None

    def acquire(self) -> None:
        """Raises :class:`StackError` naming the process that runs on the same state."""
        lock = self._lock_path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise StackError(_already_running(lock.read())) from None
        self._lock = lock
        self._make_anew()

    def note(self, facts: Mapping[str, Any]) -> None:
        """Who runs, for the one who comes second and for other commands."""
        assert self._lock is not None
        self._lock.seek(0)
        self._lock.truncate()
        self._lock.write(json.dumps({"pid": os.getpid(), **facts}))
        self._lock.flush()

    def release(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def write_secret(self, name: str, value: str) -> Path:
        path = self.path / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(value)
        return path

    def write_token(self, name: str) -> Path:
        return self.write_secret(name, secrets.token_hex(32))

    def _make_anew(self) -> None:
        """0700 and ours: a name in a shared folder could have been taken by somebody else."""
        if self.path.is_symlink() or (self.path.exists() and not _is_ours(self.path)):
            raise StackError(
                f"{self.path} belongs to somebody else: remove it, or set TMPDIR to a folder of yours."
            )
        shutil.rmtree(self.path, ignore_errors=True)
        try:
            self.path.mkdir(mode=0o700)
        except OSError as error:
            raise StackError(
                f"{self.path} cannot be made ({error.strerror}): set TMPDIR to a folder you may write."
            ) from error


def read_note(state_dir: Path) -> dict[str, Any]:
    """Facts of the stack that runs on this state; empty when none does."""
    try:
        with (state_dir / "up.lock").open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return _facts(lock.read())
    except OSError:
        pass
    return {}


def _facts(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _already_running(text: str) -> str:
    facts = _facts(text)
    who = f"pid {facts.get('pid', 'unknown')}"
    where = f", console at {facts['console']}" if "console" in facts else ""
    return (
        f"Llumdeck already runs on this state ({who}{where}): stop it there with Ctrl-C, or start another "
        "beside it with STATE_DIR=/another/folder CONSOLE_PORT=… GATEWAY_PORT=…"
    )


def _is_ours(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
