"""Other people's processes under ours: adopted, reaped, and at the end none left. Knows psutil, Linux."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable

import psutil

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none can slip away."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER was refused by the kernel")


def descendants() -> list[psutil.Process]:
    """Every process below this one, the dead but unreaped included."""
    found: list[psutil.Process] = psutil.Process().children(recursive=True)
    return found


def of_session(leader: int) -> list[psutil.Process]:
    """Descendants of ours in the session that process ``leader`` began, whoever their parent is now."""
    return [process for process in descendants() if _session(process.pid) == leader]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def reap(not_these: Iterable[int]) -> None:
    """Bury adopted orphans that have ended; ``not_these`` are waited for by their starter."""
    known = set(not_these)
    for process in psutil.Process().children():
        if process.pid not in known and _is_zombie(process):
            _bury(process.pid)


def kill_all(found: Iterable[psutil.Process], *, wait_s: float) -> list[str]:
    """SIGKILL them all; returns what is still alive after ``wait_s``, by command."""
    processes = list(found)
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(processes, timeout=wait_s)
    return [describe(process) for process in alive if not _is_zombie(process)]


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.name()} (pid {process.pid})"
    except psutil.Error:
        return f"pid {process.pid}"


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _bury(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
