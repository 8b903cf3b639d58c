"""``make test``: every part in order, each with its time, all of them even when one fails.

``python tests/run_parts.py unit types`` runs the named parts only, ``--all`` those tests, too, that are
marked ``long``. ``--two-lanes`` runs what computes with real vLLM beside all the rest, of which much waits;
each part's output comes whole then, when it has ended.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider", "--durations", "25", "--durations-min", "3"]
TYPED = ["engine_agents", "controlplane", "console", "llumdeck_cli"]
REAL = "(engine or ray or workers)"
PLAIN = "not engine and not ray and not workers and not browser and not gpu"
BROWSER = "tests/browser"
# Folders with nothing plain and nothing paced: collecting them would load vLLM, which takes longer than most
# tests.
REAL_ONLY = ["tests/vllm_engine", BROWSER]
# One more than the smallest machine has cores: a third of its time a test waits, for a paced engine mostly.
# Not by work stealing, which is faster: a run of it reported one test fewer than there are.
UNIT_PROCESSES = ["-n", "3"]
# Each process has servers of its own (Redis, Ray, gateways, a console), which the tests of a file share.
BY_FILE = ["-n", "2", "--dist", "loadfile"]
# The second is in the first; named, it is known to the process that collects nothing and prints the table.
WITH_FAULTS = ["tests", "tests/faults"]
# Else each of the many processes compiles the project's modules, and pytest's rewritten ones, for itself.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
Command = list[str]
# What only computes gives way to what looks at running engines.
GIVES_WAY = ["nice", "-n", "10"]
printing = threading.Lock()


@dataclass(frozen=True)
class Part:
    name: str
    commands: list[Command]
    lane: int = 0


@dataclass(frozen=True)
class Outcome:
    part: Part
    seconds: float
    passed: bool


def parts(kept: str) -> list[Part]:
    """``kept``: which marks are left out, as pytest's ``-m`` wants it."""

    def tests(marks: str, *words: str) -> Command:
        return [*PYTEST, "-m", f"{marks} and not gpu{kept}", *words]

    without_real = [f"--ignore={folder}" for folder in REAL_ONLY]
    return [
        Part("lint", [[str(BIN / "ruff"), "check", "."], [str(BIN / "ruff"), "format", "--check", "."]]),
        Part("types", [[*GIVES_WAY, str(BIN / "mypy"), *TYPED]]),
        Part("contracts", [[str(BIN / "lint-imports")]]),
        Part("frontend", [[*GIVES_WAY, sys.executable, "requirements/build_frontend.py", "--check"]]),
        Part("unit", [[*GIVES_WAY, *tests(PLAIN, *UNIT_PROCESSES, *without_real)]]),
        Part("postgresql", [[*GIVES_WAY, sys.executable, "-m", "tests.on_postgresql"]]),
        Part("paced", [tests(f"{REAL} and paced and not browser", *BY_FILE, *without_real, *WITH_FAULTS)]),
        Part("browser", [tests("browser and not engine", *BY_FILE, BROWSER)]),
        # The browser's sync driver runs an event loop: it would be in the way of tests that are coroutines.
        Part(
            "integration",
            [tests(f"{REAL} and not paced and not browser"), tests("browser and engine", BROWSER)],
            lane=1,
        ),
    ]


def main(words: list[str]) -> int:
    names = [word for word in words if not word.startswith("--")]
    known = parts("" if "--all" in words else " and not long")
    if unknown := set(names) - {part.name for part in known}:
        there_are = ", ".join(sorted(part.name for part in known))
        print(f"no such part: {', '.join(sorted(unknown))} (there are {there_are})", file=sys.stderr)
        return 2
    wanted = [part for part in known if part.name in names or not names]
    outcomes = run_beside(wanted) if "--two-lanes" in words else [run(part) for part in wanted]
    print("\npart          seconds  outcome")
    for each in outcomes:
        print(f"{each.part.name:12} {each.seconds:8.1f}  {'passed' if each.passed else 'FAILED'}")
    return 0 if all(each.passed for each in outcomes) else 1


def run_beside(known: Sequence[Part]) -> list[Outcome]:
    """Every lane's parts in order, the lanes side by side."""
    lanes = [[part for part in known if part.lane == lane] for lane in (0, 1)]
    began_s = time.monotonic()
    with ThreadPoolExecutor(len(lanes)) as threads:
        done = [threads.submit(lambda lane=lane: [run_quietly(part) for part in lane]) for lane in lanes]
    outcomes = [outcome for each in done for outcome in each.result()]
    print(f"\nall parts, in two lanes: {time.monotonic() - began_s:.1f} seconds")
    return outcomes


def run_quietly(part: Part) -> Outcome:
    """Its output comes in one piece."""
    say(f"--- {part.name} begins")
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        outcome = run(part, output)
        output.seek(0)
        say(output.read())
    return outcome


def run(part: Part, output: IO[str] | None = None) -> Outcome:
    print(f"\n=== {part.name}", file=output, flush=True)
    started = time.monotonic()
    results = [
        subprocess.run(
            line, cwd=PROJECT, env=ENVIRONMENT, stdout=output, stderr=output, check=False
        ).returncode
        == 0
        for line in part.commands
    ]
    return Outcome(part, time.monotonic() - started, all(results))


def say(text: str) -> None:
    with printing:
        print(text, flush=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
