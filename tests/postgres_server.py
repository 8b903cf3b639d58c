"""A PostgreSQL server for tests: Debian's or any other's binaries, never as root, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

PLACES = (
    "/usr/local/bin",
    "/usr/bin",
    *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True),
)
UNPRIVILEGED = ("postgres", "nobody")
PATIENCE_S = 90.0


def find(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join(PLACES)) or shutil.which(program)


def missing() -> str:
    """Why PostgreSQL cannot be started here; empty when it can."""
    if find("initdb") is None or find("postgres") is None:
        return "PostgreSQL's server is not installed: apt-get install postgresql"
    return ""


class PostgresServer:
    """Listens on a port of the loopback; ``stop`` and ``start`` keep its data."""

    def __init__(self, name: str = "llumdeck") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="llumdeck-pg-"))
        self._user = _user()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.url = f"postgresql://tester@127.0.0.1:{self.port}/{name}"
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        initdb, postgres = find("initdb"), find("postgres")
        assert initdb and postgres, missing()
        self._postgres = postgres
        options = ("-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D")
        self._run(initdb, *options, str(self.folder / "data"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        with psycopg.connect(self.url.rpartition("/")[0] + "/postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')

    def start(self) -> None:
        settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [self._postgres, "-D", str(self.folder / "data"), *words],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            cwd="/",
            **self._as_user(),
        )
        self._wait()

    def stop(self) -> None:
        """At once, as a crash: SIGQUIT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=PATIENCE_S)
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url.rpartition("/")[0] + "/postgres", connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)

    def _run(self, *words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/", **self._as_user())
        assert done.returncode == 0, done.stderr

    def _as_user(self) -> dict[str, object]:
        """PostgreSQL refuses to run as root."""
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}


def _user() -> pwd.struct_passwd | None:
    if os.getuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user")
