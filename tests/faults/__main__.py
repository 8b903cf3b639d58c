"""``make faults SEEDS=n``: the long form of the fault tests, and the matrix of what came of them.

Real engines and the control plane get ``n`` seeds per case, paced engines ``PACED_FACTOR`` times as many.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
PACED_FACTOR = 2


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="seeds per case (default 3)")
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--json", type=Path, default=None, help="write the matrix there")
    options, rest = parser.parse_known_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds: at least 1, not {options.seeds}")
    words = ["-q", "-p", "no:cacheprovider", "-rf", "--fault-seeds", str(options.seeds)]
    words += ["--first-seed", str(options.first_seed), "--paced-factor", str(PACED_FACTOR)]
    words += ["--faults-json", str(options.json)] if options.json else []
    return int(pytest.main([str(FOLDER), *words, *rest]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
