"""The control plane's database under test: SQLite or PostgreSQL, locked and stopped for real."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tests.postgres_server import PostgresServer

WISH = "update fleet_instance set accepting = {mark} where instance_id = {mark}"


class Database(Protocol):
    url: str

    def wish_accepting(self, wishes: Mapping[str, bool]) -> None: ...

    def locked(self) -> Any: ...


class SqliteFile:
    """One file; ``BEGIN EXCLUSIVE`` by another process is what a backup tool would do."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.sqlite3"
        self.url = f"sqlite:///{self.path}"

    def wish_accepting(self, wishes: Mapping[str, bool]) -> None:
        with sqlite3.connect(self.path, timeout=30) as connection:
            connection.executemany(WISH.format(mark="?"), [(wish, name) for name, wish in wishes.items()])
        connection.close()

    @contextmanager
    def locked(self) -> Iterator[None]:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")
            connection.close()


class PostgresDatabase:
    """A server of our own: ``LOCK TABLE`` on what the loop reads and writes, or no server at all."""

    TABLES = (
        "fleet_instance, fleet_pool, rebalancing_policyversion, rebalancing_requestmigration, "
        "rebalancing_rebalanceround, rebalancing_loopstate"
    )

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.url = server.url

    def wish_accepting(self, wishes: Mapping[str, bool]) -> None:
        with psycopg.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.executemany(WISH.format(mark="%s"), [(wish, name) for name, wish in wishes.items()])

    @contextmanager
    def locked(self) -> Iterator[None]:
        with psycopg.connect(self.url) as connection:
            connection.execute(f"LOCK TABLE {self.TABLES} IN ACCESS EXCLUSIVE MODE")
            yield
            connection.rollback()


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """A file system of so many MiB; ``None`` where we may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    mounted = os.getuid() == 0 and _silently(
        "mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder
    )
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            deadline_s = time.monotonic() + 30
            while not _silently("umount", folder) and time.monotonic() < deadline_s:
                time.sleep(0.2)
        shutil.rmtree(folder, ignore_errors=True)


def fill(folder: Path) -> Path:
    """Use up what is left; returns the file that does."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def _silently(*words: object) -> bool:
    return subprocess.run([str(word) for word in words], capture_output=True, check=False).returncode == 0
