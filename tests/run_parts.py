"""``make test``: every part in order, each with its time, all of them even when one fails.

``python tests/run_parts.py unit types`` runs the named parts only, ``--all`` those tests, too, that are
marked ``long``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider", "--durations", "25", "--durations-min", "3"]
TYPED = ["engine_agents", "controlplane", "console", "llumdeck_cli"]
REAL = "(engine or ray or workers)"
PLAIN = "not engine and not ray and not workers and not browser and not gpu"
# Folders with nothing for the unit part: collecting them would load vLLM, which takes longer than most tests.
WITHOUT_UNITS = ["tests/vllm_engine", "tests/browser"]
Command = list[str]


@dataclass(frozen=True)
class Part:
    name: str
    commands: list[Command]


def parts(kept: str) -> list[Part]:
    """``kept``: which marks are left out, as pytest's ``-m`` wants it."""

    def tests(marks: str, *words: str) -> Command:
        return [*PYTEST, "-m", f"{marks} and not gpu{kept}", *words]

    without_units = [f"--ignore={folder}" for folder in WITHOUT_UNITS]
    return [
        Part("lint", [[str(BIN / "ruff"), "check", "."], [str(BIN / "ruff"), "format", "--check", "."]]),
        Part("types", [[str(BIN / "mypy"), *TYPED]]),
        Part("contracts", [[str(BIN / "lint-imports")]]),
        Part("frontend", [[sys.executable, "requirements/build_frontend.py", "--check"]]),
        Part("unit", [tests(PLAIN, "-n", "2", *without_units)]),
        Part("postgresql", [[sys.executable, "-m", "tests.on_postgresql"]]),
        Part("integration", [tests(f"{REAL} and not browser")]),
        Part("browser", [tests("browser")]),
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
    results = [subprocess.run(line, cwd=PROJECT, check=False).returncode == 0 for line in part.commands]
    return part.name, time.monotonic() - started, all(results)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
