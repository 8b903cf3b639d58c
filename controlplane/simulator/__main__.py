"""``python -m controlplane.simulator``: run, compare, paper, fit, trace-info."""

from __future__ import annotations

import sys

from controlplane.simulator.cli import main

if __name__ == "__main__":
    sys.exit(main())
