"""``python -m tests.gateway.conformance``: the list of probes with the verdict on each, three times.

As they are; while every request is moved to and fro; and with an engine killed in the middle.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine_agents.vllm_engine.tiny_model import make_tiny_model
from tests.gateway.conformance.probes import PROBES
from tests.gateway.conformance.suite import (
    FRONT,
    Reference,
    Verdict,
    add_engine,
    compare,
    killing,
    moving,
    reference_answers,
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="probes whose name contains this")
    args = parser.parse_args(arguments)
    chosen = [probe for probe in PROBES if args.only in probe.name]
    from engine_agents.vllm_engine.frontend import build_front_half
    from tests.gateway.harness import Fleet

    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model(Path(folder) / "tiny")
        reference = Reference(model)
        fleet = Fleet(str(model), build_front_half, FRONT)
        try:
            for name in ("v1", "v2"):
                add_engine(fleet, name, model)
            reference.wait()
            known = reference_answers(reference)
            lively = [probe for probe in chosen if probe.generates]
            runs = {"as they are": compare(known, fleet.url, chosen)}
            with moving(fleet):
                runs["moved"] = compare(known, fleet.url, lively)
            with killing(fleet, "v1", len(lively) // 3):
                runs["killed"] = compare(known, fleet.url, lively)
            counters = fleet.gateway.journal.counters
            print_list(chosen, runs)
            print(f"{counters['moves']} moves, {counters['recoveries']} recoveries")
        finally:
            fleet.close()
            reference.close()
    return int(any(verdict.problem for run in runs.values() for verdict in run))


def print_list(chosen, runs: dict[str, list[Verdict]]) -> None:
    by_name = {label: {v.probe.name: v for v in verdicts} for label, verdicts in runs.items()}
    for probe in chosen:
        found = {label: run[probe.name] for label, run in by_name.items() if probe.name in run}
        status = next(iter(found.values())).theirs.status
        problems = [f"{label}: {v.problem}" for label, v in found.items() if v.problem]
        note = f"  (status and shape only: {probe.ours})" if probe.ours else ""
        print(f"{'equal' if not problems else 'DIFFERS':8}{status:4}  {probe.name}{note}")
        for problem in problems:
            print(f"              {problem}")
    for label, verdicts in runs.items():
        print(f"{label}: {sum(not v.problem for v in verdicts)} of {len(verdicts)} equal")


if __name__ == "__main__":
    raise SystemExit(main())
