"""``make test``: every part in order, each with its time, all of them even when one fails.

``python tests/run_parts.py unit types`` runs the named parts only.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider"]
TYPED = ["engine_agents", "controlplane", "console", "llumdeck_cli"]


@dataclass(frozen=True)
class Part:
    name: str
    commands: list[list[str]]


PARTS = [
    Part("lint", [[str(BIN / "ruff"), "check", "."], [str(BIN / "ruff"), "format", "--check", "."]]),
    Part("types", [[str(BIN / "mypy"), *TYPED]]),
    Part("contracts", [[str(BIN / "lint-imports")]]),
    Part("frontend", [[sys.executable, "requirements/build_frontend.py", "--check"]]),
    Part(
        "unit",
        [[*PYTEST, "-n", "2", "-m", "not engine and not ray and not workers and not browser and not gpu"]],
    ),
    Part("postgresql", [[sys.executable, "-m", "tests.on_postgresql"]]),
    Part("integration", [[*PYTEST, "-m", "(engine or ray or workers) and not browser and not gpu"]]),
    Part("browser", [[*PYTEST, "-m", "browser and not gpu"]]),
]


def main(names: list[str]) -> int:
    known = {part.name for part in PARTS}
    if unknown := [name for name in names if name not in known]:
        print(f"no such part: {', '.join(unknown)} (there are {', '.join(sorted(known))})", file=sys.stderr)
        return 2
    outcomes = [run(part) for part in PARTS if not names or part.name in names]
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
