"""``make test``: every part in order, each with its time, all of them even when one fails.

``python tests/run_parts.py unit types`` runs the named parts only, ``--all`` those tests, too, that are
marked ``long``. What is slow but leaves a core idle runs side by side, in streams.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider", "--durations", "25", "--durations-min", "3"]
TYPED = ["engine_agents", "controlplane", "console", "llumdeck_cli"]
REAL = "(engine or ray or workers)"
PLAIN = "not engine and not ray and not workers and not browser and not gpu"
# Folders with nothing for the unit part: collecting them would load vLLM, which takes longer than most tests.
WITHOUT_UNITS = ["tests/vllm_engine", "tests/browser"]
# Mostly waiting: outages, clocks, processes that start. The rest of the integration part keeps a core busy.
WAITING = [
    "tests/faults/test_control_plane.py",
    "tests/faults/test_fleet.py",
    "tests/faults/test_fleet_real.py",
    "tests/faults/test_tenants.py",
    "tests/integration",
]

Command = list[str]


@dataclass(frozen=True)
class Part:
    name: str
    streams: list[list[Command]]
    """Commands of a stream run one after the other; streams run side by side."""


def parts(kept: str) -> list[Part]:
    """``kept``: which marks are left out, as pytest's ``-m`` wants it."""

    def tests(marks: str, *words: str) -> Command:
        return [*PYTEST, "-m", f"{marks} and not gpu{kept}", *words]

    without_units = [f"--ignore={folder}" for folder in WITHOUT_UNITS]
    without_waiting = [f"--ignore={path}" for path in WAITING]
    real = f"{REAL} and not browser"
    return [
        Part("lint", [[[str(BIN / "ruff"), "check", "."], [str(BIN / "ruff"), "format", "--check", "."]]]),
        Part("types", [[[str(BIN / "mypy"), *TYPED]]]),
        Part("contracts", [[[str(BIN / "lint-imports")]]]),
        Part("frontend", [[[sys.executable, "requirements/build_frontend.py", "--check"]]]),
        Part("unit", [[tests(PLAIN, "-n", "2", *without_units)]]),
        Part("postgresql", [[[sys.executable, "-m", "tests.on_postgresql"]]]),
        Part("integration", [[tests(real, *without_waiting)], [tests(real, *WAITING)]]),
        Part("browser", [[tests("browser")]]),
    ]


def main(words: list[str]) -> int:
    names = [word for word in words if word != "--all"]
    known = parts("" if "--all" in words else " and not long")
    if unknown := set(names) - {part.name for part in known}:
        there_are = ", ".join(sorted(part.name for part in known))
        print(f"no such part: {', '.join(sorted(unknown))} (there are {there_are})", file=sys.stderr)
        return 2
    outcomes = [run(part) for part in known if not names or part.name in names]
    print("\npart          seconds  outcome")
    for name, seconds, passed in outcomes:
        print(f"{name:12} {seconds:8.1f}  {'passed' if passed else 'FAILED'}")
    return 0 if all(passed for _, _, passed in outcomes) else 1


def run(part: Part) -> tuple[str, float, bool]:
    print(f"\n=== {part.name}", flush=True)
    started = time.monotonic()
    first, *others = part.streams
    with tempfile.TemporaryDirectory() as folder:
        beside = [Beside(commands, Path(folder) / str(at)) for at, commands in enumerate(others)]
        passed = [succeeds(command) for command in first] + [each.end() for each in beside]
    return part.name, time.monotonic() - started, all(passed)


class Beside:
    """A stream beside the first: what it prints is shown when both are over."""

    def __init__(self, commands: list[Command], log: Path) -> None:
        self._commands, self._log = commands, log
        self._passed: list[bool] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self._log.open("wb") as log:
            self._passed += [succeeds(command, log) for command in self._commands]

    def end(self) -> bool:
        self._thread.join()
        print(f"\n--- beside it\n{self._log.read_text(errors='replace')}", flush=True)
        return all(self._passed)


def succeeds(command: Command, log: IO[bytes] | None = None) -> bool:
    both = subprocess.STDOUT if log is not None else None
    return subprocess.run(command, cwd=PROJECT, check=False, stdout=log, stderr=both).returncode == 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
