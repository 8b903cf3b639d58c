"""Models, services and API tested once more, on PostgreSQL: ``python -m tests.on_postgresql [pytest words]``.

The server is Debian's (or any other on this machine), started for this run in a folder of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from console.settings.env import child_environment
from tests.postgres_server import PostgresServer, missing

PROJECT = Path(__file__).resolve().parent.parent
FOLDERS = ("tests/controlplane", "tests/console/api")
LEFT_OUT = ("--ignore=tests/console/api/test_fuzzing.py",)
SKIP = "not engine and not ray and not workers and not browser and not gpu"


def main(words: list[str]) -> int:
    if problem := missing():
        print(problem, file=sys.stderr)
        return 1
    server = PostgresServer()
    try:
        # What is sent at random to every endpoint takes a minute by itself; one database is enough for that.
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "tests.database_only",
            "-n",
            "2",
            "-m",
            SKIP,
        ]
        where = words or [folder for folder in FOLDERS if (PROJECT / folder).is_dir()]
        environment = child_environment(
            {"DATABASE_URL": server.url, "DJANGO_SETTINGS_MODULE": "console.settings.test"}
        )
        command += [*LEFT_OUT, *where]
        return subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode
    finally:
        server.close()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
